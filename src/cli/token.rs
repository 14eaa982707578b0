//! `sidegate token …`: tokens issued, listed, inspected; `token_revoke.rs` ends them.

use std::time::Duration;

use serde_json::{Value, json};

use super::failure::Failure;
use super::place::{OpenStore, Place, block_on};
use super::token_revoke::{self, Revoke};
use super::{audit, client, help, output, values};
use crate::base::clock::UnixMillis;
use crate::base::oauth::ClientId;
use crate::config::Config;
use crate::observe::audit::AuditLine;
use crate::tokens::issue::{Issued, issue};
use crate::tokens::{PresentedToken, Revocation, TokenId, TokenRecord};

/// Tokens read from the store at once while listing.
const PAGE: u32 = 500;

/// Issue, list, inspect and revoke tokens
///
/// Only a hash of a token is kept, so no command can show one again: tokens are named by their public
/// number. A change holds when the command returns: every sidecar of this host that uses the store
/// has applied it. When standard error is no terminal, the change is also written there as a line of
/// the audit log.
#[derive(Debug, clap::Subcommand)]
#[command(after_long_help = help!(
    "  sidegate token issue --client reports --ttl 1h\n  \
       sidegate token list --client reports\n  \
       sidegate token inspect 214\n  \
       sidegate token revoke 214"
))]
pub(super) enum Command {
    Issue(Issue),
    List(List),
    Inspect(Inspect),
    Revoke(Revoke),
}

/// Issue a token for a client
///
/// The token is shown this one time, alone on standard output; everything else goes to standard
/// error.
#[derive(Debug, clap::Args)]
#[command(after_long_help = help!(
    "  sidegate token issue --client reports\n  \
       TOKEN=$(sidegate token issue --client reports --scope read --ttl 10m)\n  \
       sidegate token issue --client reports --json | jq -r .access_token"
))]
pub(super) struct Issue {
    /// The client it is for
    #[arg(long, value_name = "ID", value_parser = values::client_id)]
    client: ClientId,
    /// A scope it gets, one of the client's; repeat it for several [default: all of the client's]
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// How long it lives: 10m, 12h, 7d [default: `access_token_ttl` of `[tokens]`]
    #[arg(long, value_name = "DURATION", value_parser = values::lifetime)]
    ttl: Option<Duration>,
    /// Print `{"access_token", "token_type", "expires_in", "scope", "id"}`
    #[arg(long)]
    json: bool,
}

/// List tokens by their public numbers, the newest first
#[derive(Debug, clap::Args)]
#[command(after_long_help = help!(
    "  sidegate token list\n  \
       sidegate token list --client reports --all --json"
))]
pub(super) struct List {
    /// Only those of this client
    #[arg(long, value_name = "ID", value_parser = values::client_id)]
    client: Option<ClientId>,
    /// Also those that are expired or revoked
    #[arg(long)]
    all: bool,
    /// Print one JSON array of objects
    #[arg(long)]
    json: bool,
}

/// Say what is known about one token
///
/// Names it by its public number, or by the token itself on standard input; a token is never an
/// argument, because everybody on a machine can see those.
#[derive(Debug, clap::Args)]
#[command(after_long_help = help!(
    "  sidegate token inspect 214\n  \
       printf %s \"$TOKEN\" | sidegate token inspect --token-stdin --json"
))]
pub(super) struct Inspect {
    /// Its public number
    #[arg(value_name = "ID", required_unless_present = "token_stdin")]
    id: Option<String>,
    /// Read the token from standard input
    #[arg(long, conflicts_with = "id")]
    token_stdin: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: Command, place: &Place) -> Result<(), Failure> {
    let config = place.load()?;
    block_on(async {
        match command {
            Command::Issue(arguments) => give(&arguments, &config).await,
            Command::List(arguments) => list(&arguments, &config).await,
            Command::Inspect(arguments) => inspect(&arguments, &config).await,
            Command::Revoke(arguments) => token_revoke::run(&arguments, &config).await,
        }
    })
}

async fn give(arguments: &Issue, config: &Config) -> Result<(), Failure> {
    let wanted = values::scopes(&arguments.scopes)?;
    let store = OpenStore::to_change(config).await?;
    let client = client::find(config, &store, &arguments.client)
        .await?
        .ok_or_else(|| client::unknown(&arguments.client))?;
    let scopes = client::granted(&client, &wanted)?;
    let ttl = arguments.ttl.unwrap_or(config.tokens.access_token_ttl);
    let now = store.clock.now().wall();
    let issued = issue(&*store.stores.tokens, &client.id, scopes, ttl, now)
        .await
        .map_err(|error| Failure::unavailable(format!("no token was issued: {error}.")))?;
    store.wait_until_heard().await;
    let scope = issued.scopes.to_string();
    let happened = |event| AuditLine {
        event,
        client_id: Some(client.id.as_str()),
        token_id: Some(issued.id.0),
        scope: Some(&scope),
        ..audit::by_command(now)
    };
    audit::write(config, &happened("token_issued"));
    if let Err(error) = show(&issued, arguments.json) {
        // Nobody has the token: it must not live on unseen.
        let revocation = Revocation::Id(issued.id);
        let gone = store.stores.tokens.revoke(revocation, now).await.is_ok();
        if gone {
            store.wait_until_heard().await;
            audit::write(config, &happened("token_revoked"));
        }
        store.close().await;
        let now = if gone { "was revoked" } else { "is lost" };
        return Err(Failure::other(format!(
            "the token could not be written to standard output ({error}) and {now}. Run the command again with an output that takes it."
        )));
    }
    store.close().await;
    output::say(&format!(
        "issued token {} of the client {} with scope \"{}\", good until {}",
        issued.id,
        client.id,
        issued.scopes,
        output::time(issued.expires)
    ));
    Ok(())
}

fn show(issued: &Issued, json: bool) -> std::io::Result<()> {
    if !json {
        return output::once(issued.token.expose());
    }
    // The members of contract §5, where `expires_in` is a string.
    let seconds = issued.expires.since(issued.issued).as_secs();
    let shown = json!({
        "access_token": issued.token.expose(),
        "token_type": "bearer",
        "expires_in": seconds.to_string(),
        "scope": issued.scopes.to_string(),
        "id": issued.id.0,
    });
    output::once(&shown.to_string())
}

async fn list(arguments: &List, config: &Config) -> Result<(), Failure> {
    let mut found = Vec::new();
    let mut known = Vec::new();
    let mut now = UnixMillis::default();
    if let Some(store) = OpenStore::if_there(config).await? {
        now = store.clock.now().wall();
        let mut before = None;
        loop {
            let tokens = &store.stores.tokens;
            let client = arguments.client.as_ref();
            let page = tokens
                .list(client, arguments.all, now, before, PAGE)
                .await?;
            before = page.last().map(|record| record.id);
            found.extend(page);
            // A page may be short without being the last, an empty one is the last.
            if before.is_none() {
                break;
            }
        }
        known = clients(config, &store).await?;
        store.close().await;
    }
    if arguments.json {
        let objects = found
            .iter()
            .map(|record| object(record, state(record, &known, now)));
        return output::json(&Value::Array(objects.collect()));
    }
    let rows: Vec<_> = found
        .iter()
        .map(|record| {
            vec![
                record.id.to_string(),
                record.client_id.to_string(),
                record.scopes.to_string(),
                output::time(record.issued),
                output::time(record.expires),
                state(record, &known, now).to_owned(),
            ]
        })
        .collect();
    output::table(
        &["TOKEN", "CLIENT", "SCOPES", "ISSUED", "EXPIRES", "STATE"],
        &rows,
        "there are no tokens to list; `sidegate token issue --client ID` issues one",
    )
}

/// The ids of all clients there are.
async fn clients(config: &Config, store: &OpenStore<'_>) -> Result<Vec<ClientId>, Failure> {
    let stored = store.stores.clients.list().await?;
    let all = config.clients.iter().chain(&stored);
    Ok(all.map(|client| client.id.clone()).collect())
}

/// What the gate makes of a token, in a word.
fn state(record: &TokenRecord, clients: &[ClientId], now: UnixMillis) -> &'static str {
    if record.revoked.is_some() {
        "revoked"
    } else if record.expires <= now {
        "expired"
    } else if !clients.contains(&record.client_id) {
        "client_removed"
    } else {
        "live"
    }
}

fn object(record: &TokenRecord, state: &str) -> Value {
    json!({
        "id": record.id.0,
        "client_id": record.client_id.as_str(),
        "scope": record.scopes.to_string(),
        "state": state,
        "issued": output::time(record.issued),
        "expires": output::time(record.expires),
        "revoked": output::json_time(record.revoked),
    })
}

async fn inspect(arguments: &Inspect, config: &Config) -> Result<(), Failure> {
    let named = Named::by(arguments.id.as_deref())?;
    let store = OpenStore::if_there(config).await?;
    let store = store.ok_or_else(|| named.unknown())?;
    let tokens = &store.stores.tokens;
    let found = match &named {
        Named::Number(id) => tokens.find_by_id(*id).await?,
        Named::Itself(token) => tokens.find(&token.hash).await?,
    };
    let record = found.ok_or_else(|| named.unknown())?;
    let now = store.clock.now().wall();
    let state = state(&record, &clients(config, &store).await?, now);
    store.close().await;
    if arguments.json {
        return output::json(&object(&record, state));
    }
    let mut text = format!(
        "token    {}\nclient   {}\nscopes   {}\nstate    {}\nissued   {}\nexpires  {}",
        record.id,
        record.client_id,
        record.scopes,
        state,
        output::time(record.issued),
        output::time(record.expires),
    );
    if let Some(revoked) = record.revoked {
        text.push_str(&format!("\nrevoked  {}", output::time(revoked)));
    }
    output::line(&text)
}

/// How an argument or standard input names a token.
pub(super) enum Named {
    /// By its public number.
    Number(TokenId),
    /// By the token itself.
    Itself(PresentedToken),
}

impl Named {
    /// By the number in `argument`, else by what is on standard input.
    pub(super) fn by(argument: Option<&str>) -> Result<Self, Failure> {
        if let Some(number) = argument {
            return values::token_id(number).map(Self::Number);
        }
        let token = values::secret_from_stdin("token")?;
        PresentedToken::parse(token.expose())
            .map(Self::Itself)
            .ok_or_else(|| {
                Failure::other(
                    "what is on standard input is none of Sidegate's tokens: those begin with sgt_ and \
                     end with a checksum, which a token that was cut or mistyped does not fit.",
                )
            })
    }

    /// There is no such token.
    pub(super) fn unknown(&self) -> Failure {
        Failure::other(match self {
            Self::Number(id) => format!(
                "there is no token {id}: it never was, or it ended so long ago that it was pruned. \
                 `sidegate token list --all` shows those there are."
            ),
            Self::Itself(_) => {
                "that token is not in this store: it was issued elsewhere, or it ended \
                 so long ago that it was pruned."
                    .to_owned()
            }
        })
    }
}
