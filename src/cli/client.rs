//! `sidegate client …`: the registered clients, those of the file and those of the store.

use std::time::Duration;

use serde_json::json;

use super::audit;
use super::client_list::{self, List, joined};
use super::failure::Failure;
use super::place::{OpenStore, Place, block_on};
use super::{help, output, values};
use crate::base::oauth::{ClientId, Scopes};
use crate::base::secret::Secret;
use crate::clients::{
    Client, ClientSecret, ClientStoreError, Origin, SecretDigest, SudoGrant, TenantGrant,
};
use crate::config::Config;
use crate::observe::audit::AuditLine;

/// Manage the clients that may ask for tokens
///
/// Clients are registered in `[[clients]]` of the configuration or, by these commands, in the store;
/// one of the file shadows one of the same id in the store. A change holds when the command returns:
/// every sidecar of this host that uses the store has applied it. When standard error is no terminal,
/// the change is also written there as a line of the audit log.
#[derive(Debug, clap::Subcommand)]
#[command(after_long_help = help!(
    "  sidegate client add reports --scope read\n  \
       sidegate client list\n  \
       sidegate client rotate-secret reports --overlap 24h\n  \
       sidegate client remove reports"
))]
pub(super) enum Command {
    Add(Add),
    List(List),
    Remove(Remove),
    RotateSecret(RotateSecret),
}

/// Register a client, and show the secret that is made for it
///
/// The secret is shown this one time, alone on standard output; everything else goes to standard
/// error. Only a hash of it is kept. With --secret-stdin the client gets a secret of your own, and
/// nothing is shown.
#[derive(Debug, clap::Args)]
#[command(after_long_help = help!(
    "  sidegate client add reports --scope read --tenant id:7\n  \
       sidegate client add helpdesk --scope sudo --sudo 'email:*@example.com'\n  \
       SECRET=$(sidegate client add nightly)\n  \
       sidegate client add legacy --secret-stdin < /run/secrets/legacy"
))]
pub(super) struct Add {
    /// What the client is called: its `client_id`
    #[arg(value_name = "ID", value_parser = values::client_id)]
    id: ClientId,
    /// A scope it may have; repeat it for several [default: `default_scope` of `[tokens]`]
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// A tenant it may act in: `id:7`, `code:ACME`, with `*` for any run; repeatable [default: all]
    #[arg(long = "tenant", value_name = "TENANT")]
    tenants: Vec<String>,
    /// Whom it may act as: `uid:*`, `email:*@example.com`; repeatable; needs the scope sudo
    /// [default: everybody, the scope being the grant]
    #[arg(long = "sudo", value_name = "PATTERN")]
    sudo: Vec<String>,
    /// Take the secret from standard input instead of making one
    #[arg(long)]
    secret_stdin: bool,
    /// Print `{"client_id", "client_secret"}`
    #[arg(long)]
    json: bool,
}

/// Remove a client of the store, and revoke all its tokens
#[derive(Debug, clap::Args)]
#[command(after_long_help = help!("  sidegate client remove reports"))]
pub(super) struct Remove {
    /// The client
    #[arg(value_name = "ID", value_parser = values::client_id)]
    id: ClientId,
}

/// Give a client of the store a new secret
///
/// The old one ends at once, or after --overlap. Tokens that were issued live on. The new secret is
/// shown this one time, alone on standard output.
#[derive(Debug, clap::Args)]
#[command(after_long_help = help!(
    "  sidegate client rotate-secret reports\n  \
       sidegate client rotate-secret reports --overlap 24h   both secrets work for a day"
))]
pub(super) struct RotateSecret {
    /// The client
    #[arg(value_name = "ID", value_parser = values::client_id)]
    id: ClientId,
    /// How long the secrets it had still work: 30m, 24h, 7d
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = values::duration)]
    overlap: Duration,
    /// Take the secret from standard input instead of making one
    #[arg(long)]
    secret_stdin: bool,
    /// Print `{"client_id", "client_secret"}`
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: Command, place: &Place) -> Result<(), Failure> {
    let config = place.load()?;
    block_on(async {
        match command {
            Command::Add(arguments) => add(arguments, &config).await,
            Command::List(arguments) => client_list::run(&arguments, &config).await,
            Command::Remove(arguments) => remove(&arguments.id, &config).await,
            Command::RotateSecret(arguments) => rotate(&arguments, &config).await,
        }
    })
}

async fn add(arguments: Add, config: &Config) -> Result<(), Failure> {
    let id = arguments.id.clone();
    if in_file(config, &id) {
        return Err(Failure::other(format!(
            "the client {id} is in {} already, which counts before the store. Change it there, or choose another id.",
            config.file.display()
        )));
    }
    let client = described(&arguments, config)?;
    let (shown, digest) = secret(arguments.secret_stdin)?;
    let client = Client {
        secrets: vec![ClientSecret {
            digest,
            expires: None,
        }],
        ..client
    };
    let store = OpenStore::to_change(config).await?;
    let now = store.clock.now().wall();
    let inserted = store.stores.clients.insert(&client, now).await;
    if let Err(ClientStoreError::Exists) = inserted {
        return Err(Failure::other(format!(
            "the client {id} is there already. `sidegate client list` shows it, `sidegate client \
             rotate-secret {id}` gives it a new secret, and `sidegate client remove {id}` removes it."
        )));
    }
    inserted?;
    store.wait_until_heard().await;
    let happened = |event| AuditLine {
        event,
        client_id: Some(id.as_str()),
        ..audit::by_command(now)
    };
    audit::write(config, &happened("client_added"));
    if let Err(error) = show(&id, shown.as_ref(), arguments.json) {
        // A client whose secret nobody has is of no use, and would be in the way of another try.
        let undone = store.stores.clients.remove(&id, now).await.is_ok();
        if undone {
            store.wait_until_heard().await;
            audit::write(config, &happened("client_removed"));
        }
        store.close().await;
        return Err(lost(&error, undone, &id));
    }
    output::say(&format!("added the client {id} with {}", may(&client)));
    store.close().await;
    Ok(())
}

/// The client that the arguments describe, without a secret.
fn described(arguments: &Add, config: &Config) -> Result<Client, Failure> {
    let scopes = if arguments.scopes.is_empty() {
        config.tokens.default_scope.clone()
    } else {
        values::scopes(&arguments.scopes)?
    };
    if !arguments.sudo.is_empty() && !scopes.holds_sudo() {
        return Err(Failure::usage(
            "--sudo says whom a client with the scope sudo may act as, and this client does not have \
             that scope: add --scope sudo, or leave --sudo out.",
        ));
    }
    let texts = |texts: &[String]| (!texts.is_empty()).then(|| texts.to_vec());
    let tenants = match texts(&arguments.tenants) {
        Some(texts) => TenantGrant::parse(texts.iter().map(String::as_str))
            .map_err(|wrong| Failure::usage(format!("--tenant: {wrong}.")))?,
        None => TenantGrant::every(),
    };
    let sudo = match texts(&arguments.sudo) {
        Some(texts) => SudoGrant::parse(texts.iter().map(String::as_str))
            .map_err(|wrong| Failure::usage(format!("--sudo: {wrong}.")))?,
        None => SudoGrant::everybody(),
    };
    Ok(Client {
        id: arguments.id.clone(),
        secrets: Vec::new(),
        scopes,
        tenants,
        sudo,
        rate_limits: Vec::new(),
        origin: Origin::Store,
        created: None,
    })
}

/// What is kept of the secret, and the secret itself where it was made here.
fn secret(from_stdin: bool) -> Result<(Option<Secret>, SecretDigest), Failure> {
    let no_randomness =
        |_| Failure::other("the system gives no random bytes; nothing was changed. Try again.");
    if from_stdin {
        let brought = values::secret_from_stdin("secret")?;
        let digest = SecretDigest::of_brought(&brought).map_err(no_randomness)?;
        return Ok((None, digest));
    }
    let (made, digest) = SecretDigest::make().map_err(no_randomness)?;
    Ok((Some(made), digest))
}

/// Writes a made secret to standard output, this one time.
fn show(id: &ClientId, made: Option<&Secret>, json: bool) -> std::io::Result<()> {
    let made = made.map(Secret::expose);
    if json {
        let shown = json!({"client_id": id.as_str(), "client_secret": made});
        return output::once(&shown.to_string());
    }
    made.map_or(Ok(()), output::once)
}

fn lost(error: &std::io::Error, undone: bool, id: &ClientId) -> Failure {
    let now = if undone {
        "so the client was removed again. Run the command with an output that takes it.".to_owned()
    } else {
        format!(
            "and the client {id} could not be removed again: `sidegate client rotate-secret {id}` gives it a new one."
        )
    };
    Failure::other(format!(
        "the secret could not be written to standard output ({error}), {now}"
    ))
}

/// What a client may do, in words.
fn may(client: &Client) -> String {
    let mut text = if client.scopes.is_empty() {
        "no scope".to_owned()
    } else {
        format!("scope \"{}\"", client.scopes)
    };
    text.push_str(&format!(", tenants {}", joined(client.tenants.patterns())));
    if client.scopes.holds_sudo() {
        text.push_str(&format!(", sudo {}", joined(client.sudo.patterns())));
    }
    text
}

async fn remove(id: &ClientId, config: &Config) -> Result<(), Failure> {
    refuse_file_client(config, id)?;
    let store = OpenStore::to_change_if_there(config)
        .await?
        .ok_or_else(|| unknown(id))?;
    let now = store.clock.now().wall();
    if !store.stores.clients.remove(id, now).await? {
        return Err(unknown(id));
    }
    store.wait_until_heard().await;
    audit::write(
        config,
        &AuditLine {
            event: "client_removed",
            client_id: Some(id.as_str()),
            ..audit::by_command(now)
        },
    );
    output::say(&format!("removed the client {id}; its tokens are revoked"));
    store.close().await;
    Ok(())
}

async fn rotate(arguments: &RotateSecret, config: &Config) -> Result<(), Failure> {
    let id = &arguments.id;
    refuse_file_client(config, id)?;
    let store = OpenStore::to_change_if_there(config)
        .await?
        .ok_or_else(|| unknown(id))?;
    if store.stores.clients.find(id).await?.is_none() {
        return Err(unknown(id));
    }
    let (made, digest) = secret(arguments.secret_stdin)?;
    let now = store.clock.now().wall();
    let end = now.plus(arguments.overlap);
    if !store
        .stores
        .clients
        .rotate_secret(id, &digest, end, now)
        .await?
    {
        return Err(unknown(id));
    }
    store.wait_until_heard().await;
    audit::write(
        config,
        &AuditLine {
            event: "client_secret_rotated",
            client_id: Some(id.as_str()),
            ..audit::by_command(now)
        },
    );
    store.close().await;
    show(id, made.as_ref(), arguments.json).map_err(|error| {
        Failure::other(format!(
            "the client {id} has a new secret, but it could not be written to standard output \
             ({error}) and is lost. Run the command again with an output that takes it."
        ))
    })?;
    let old = match arguments.overlap {
        Duration::ZERO => "the one it had is refused from now on".to_owned(),
        _ => format!("those it had work until {} at most", output::time(end)),
    };
    output::say(&format!("the client {id} has a new secret; {old}"));
    Ok(())
}

/// Whether the configuration has a client of this id.
pub(super) fn in_file(config: &Config, id: &ClientId) -> bool {
    config.clients.iter().any(|client| client.id == *id)
}

fn refuse_file_client(config: &Config, id: &ClientId) -> Result<(), Failure> {
    if in_file(config, id) {
        return Err(Failure::other(format!(
            "the client {id} is written in {}, not in the store: change it there, in its [[clients]] table, and restart the sidecar.",
            config.file.display()
        )));
    }
    Ok(())
}

/// Nobody of this id is registered.
pub(super) fn unknown(id: &ClientId) -> Failure {
    Failure::other(format!(
        "there is no client {id}. `sidegate client list` shows those there are, and `sidegate client add {id}` adds it."
    ))
}

/// The client of this id, the file's before the store's.
pub(super) async fn find(
    config: &Config,
    store: &OpenStore<'_>,
    id: &ClientId,
) -> Result<Option<Client>, Failure> {
    if let Some(client) = config.clients.iter().find(|client| client.id == *id) {
        return Ok(Some(client.clone()));
    }
    Ok(store.stores.clients.find(id).await?)
}

/// What `client` may be given of `wanted`; all it has when nothing is wanted.
pub(super) fn granted(client: &Client, wanted: &Scopes) -> Result<Scopes, Failure> {
    if wanted.is_empty() {
        return Ok(client.scopes.clone());
    }
    if !client.scopes.holds_all(wanted) {
        return Err(Failure::other(format!(
            "the client {} has the scopes \"{}\", and a token of it can have no others.",
            client.id, client.scopes
        )));
    }
    Ok(client.scopes.within(wanted))
}
