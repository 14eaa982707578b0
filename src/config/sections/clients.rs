//! `[[clients]]`.

use std::collections::HashMap;

use super::rate_limits;
use super::routes::scopes;
use crate::base::oauth::{ClientId, Scopes};
use crate::clients::secret::SecretDigest;
use crate::clients::{Client, ClientSecret, Origin, SudoGrant, TenantGrant};
use crate::config::mistake::quoted;
use crate::config::reader::{Field, Table, Wrong};
use crate::config::values::secret;

pub(in crate::config) fn read(
    root: &Table<'_>,
    default_scope: &Scopes,
    limits: &[String],
) -> Vec<Client> {
    let mut first: HashMap<ClientId, String> = HashMap::new();
    let mut clients = Vec::new();
    for table in root.listed("clients") {
        let id = table.required("id", "name the client, such as id = \"demo-app\"", id);
        if let (Some(id), Some(field)) = (&id, table.field("id")) {
            if let Some(other) = first.get(id) {
                field.wrong(Wrong::new(
                    format!("{other} has the id {} already", quoted(id.as_str())),
                    "give each client an id of its own",
                ));
            } else {
                first.insert(id.clone(), table.path().to_owned());
            }
        }
        clients.extend(one(&table, id, default_scope, limits));
    }
    clients
}

fn id(field: &Field<'_>) -> Result<ClientId, Wrong> {
    let mend = "write a string such as \"demo-app\"";
    ClientId::parse(field.text(mend)?).map_err(|error| Wrong::new(error, mend))
}

fn one(
    table: &Table<'_>,
    id: Option<ClientId>,
    default_scope: &Scopes,
    limits: &[String],
) -> Option<Client> {
    let secret = table.required(
        "secret",
        "write secret = { env = \"NAME\" } or { file = \"/path\" }",
        secret,
    );
    let wrong_scopes = table.has("scopes");
    let own_scopes = table.optional("scopes", scopes);
    let scopes_unknown = wrong_scopes && own_scopes.is_none();
    let scopes = own_scopes.unwrap_or_else(|| default_scope.clone());
    let tenants = table.value("tenants", TenantGrant::every(), tenants);
    let sudo = table.value("sudo", SudoGrant::everybody(), sudo);
    if let Some(field) = table.field("sudo")
        && !scopes.holds_sudo()
        && !scopes_unknown
        && !table.reading().partial
    {
        field.wrong(Wrong::new(
            "the client has not the scope sudo, so it may act as nobody",
            "remove it, or add \"sudo\" to the client's scopes",
        ));
    }
    let rate_limits = table.value("rate_limits", Vec::new(), rate_limits::names(limits));
    Some(Client {
        id: id?,
        secrets: vec![ClientSecret {
            digest: SecretDigest::Configured(secret?),
            expires: None,
        }],
        scopes,
        tenants,
        sudo,
        rate_limits,
        origin: Origin::File,
        created: None,
    })
}

fn tenants(field: &Field<'_>) -> Result<TenantGrant, Wrong> {
    let mend = "write a list such as [\"id:7\", \"code:ACME\"] or [\"*\"]";
    let patterns = field.each(mend, |item| {
        let text = item.text(mend)?;
        TenantGrant::parse([text])
            .map(|_| text.to_owned())
            .map_err(|_| not_a_pattern(text, mend))
    })?;
    TenantGrant::parse(patterns.iter().map(String::as_str)).map_err(|e| Wrong::new(e, mend))
}

fn sudo(field: &Field<'_>) -> Result<SudoGrant, Wrong> {
    let mend = "write a list such as [\"uid:*\", \"email:*@example.com\"] or [\"*\"]; \
                kinds are uid, loginName, email and mobile";
    let patterns = field.each(mend, |item| {
        let text = item.text(mend)?;
        SudoGrant::parse([text])
            .map(|_| text.to_owned())
            .map_err(|_| not_a_pattern(text, mend))
    })?;
    SudoGrant::parse(patterns.iter().map(String::as_str)).map_err(|e| Wrong::new(e, mend))
}

fn not_a_pattern(text: &str, mend: &str) -> Wrong {
    Wrong::new(format!("{} is no pattern", quoted(text)), mend)
}
