//! `sidegate client list`: all clients, those of the file over those of the store.

use serde_json::{Value, json};

use super::client::in_file;
use super::failure::Failure;
use super::place::OpenStore;
use super::{help, output};
use crate::clients::{Client, Origin};
use crate::config::Config;

/// List all clients, without their secrets
#[derive(Debug, clap::Args)]
#[command(after_long_help = help!(
    "  sidegate client list\n  \
       sidegate client list --json | jq -r '.[].client_id'"
))]
pub(super) struct List {
    /// Print one JSON array of objects
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: &List, config: &Config) -> Result<(), Failure> {
    let mut clients = config.clients.clone();
    if let Some(store) = OpenStore::if_there(config).await? {
        clients.extend(store.stores.clients.list().await?);
        store.close().await;
    }
    // A stable sort: one of the file stays before the one that it shadows.
    clients.sort_by(|a, b| a.id.cmp(&b.id));
    let shadowed = |client: &Client| client.origin == Origin::Store && in_file(config, &client.id);
    if arguments.json {
        let objects = clients
            .iter()
            .map(|client| object(client, shadowed(client)));
        return output::json(&Value::Array(objects.collect()));
    }
    let rows: Vec<_> = clients
        .iter()
        .map(|client| row(client, shadowed(client)))
        .collect();
    output::table(
        &["CLIENT", "ORIGIN", "SCOPES", "TENANTS", "SUDO", "SECRETS"],
        &rows,
        "there are no clients; `sidegate client add ID` adds one",
    )
}

fn object(client: &Client, shadowed: bool) -> Value {
    let sudo: Vec<_> = match client.scopes.holds_sudo() {
        true => client.sudo.patterns().collect(),
        false => Vec::new(),
    };
    let secrets: Vec<_> = client
        .secrets
        .iter()
        .map(|secret| json!({"ends": output::json_time(secret.expires)}))
        .collect();
    json!({
        "client_id": client.id.as_str(),
        "origin": origin(client),
        "shadowed": shadowed,
        "scopes": client.scopes.iter().collect::<Vec<_>>(),
        "tenants": client.tenants.patterns().collect::<Vec<_>>(),
        "sudo": sudo,
        "rate_limits": client.rate_limits,
        "secrets": secrets,
        "created": output::json_time(client.created),
    })
}

fn origin(client: &Client) -> &'static str {
    match client.origin {
        Origin::File => "file",
        Origin::Store => "store",
    }
}

fn row(client: &Client, shadowed: bool) -> Vec<String> {
    let note = if shadowed { " (shadowed)" } else { "" };
    let sudo = match client.scopes.holds_sudo() {
        true => joined(client.sudo.patterns()),
        false => String::new(),
    };
    let ends = client.secrets.iter().filter_map(|secret| secret.expires);
    let ends: Vec<_> = ends
        .map(|end| format!("one until {}", output::time(end)))
        .collect();
    let mut secrets = client.secrets.len().to_string();
    if !ends.is_empty() {
        secrets.push_str(&format!(", {}", ends.join(", ")));
    }
    vec![
        client.id.to_string(),
        format!("{}{note}", origin(client)),
        client.scopes.to_string(),
        joined(client.tenants.patterns()),
        sudo,
        secrets,
    ]
}

/// Patterns as a list for people.
pub(super) fn joined<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    texts.collect::<Vec<_>>().join(" ")
}
