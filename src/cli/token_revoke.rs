//! `sidegate token revoke`: ends tokens, one or many.

use serde_json::json;

use super::failure::Failure;
use super::place::OpenStore;
use super::token::Named;
use super::{audit, help, output, values};
use crate::base::oauth::ClientId;
use crate::config::Config;
use crate::observe::audit::AuditLine;
use crate::tokens::{Revocation, TokenRecord};

/// Revoke tokens: one, those of a client, or those issued before a time
///
/// They are refused by the next request after the command returns. A single token that is unknown,
/// expired or revoked already is told and ends with 1; revoking many ends with 0 however many there
/// were.
#[derive(Debug, clap::Args)]
#[command(after_long_help = help!(
    "  sidegate token revoke 214\n  \
       printf %s \"$TOKEN\" | sidegate token revoke --token-stdin\n  \
       sidegate token revoke --client reports\n  \
       sidegate token revoke --before 24h                    all issued more than a day ago\n  \
       sidegate token revoke --before 2026-01-31T12:00:00Z"
))]
#[command(group = clap::ArgGroup::new("which").required(true))]
pub(super) struct Revoke {
    /// The token's public number
    #[arg(value_name = "ID", group = "which")]
    id: Option<String>,
    /// Read the token from standard input
    #[arg(long, group = "which")]
    token_stdin: bool,
    /// All tokens of this client
    #[arg(long, value_name = "ID", value_parser = values::client_id, group = "which")]
    client: Option<ClientId>,
    /// All tokens issued before this: an RFC 3339 time, or how long ago (30m, 24h, 7d)
    #[arg(long, value_name = "TIME", group = "which")]
    before: Option<String>,
    /// Print `{"revoked": NUMBER}`
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: &Revoke, config: &Config) -> Result<(), Failure> {
    match (&arguments.client, &arguments.before) {
        (Some(client), _) => many(arguments, config, Revocation::Client(client.clone())).await,
        (None, Some(before)) => {
            let now = crate::base::clock::Clock::system().now().wall();
            let before = values::before(before, now)?;
            many(arguments, config, Revocation::IssuedBefore(before)).await
        }
        (None, None) => one(arguments, config).await,
    }
}

async fn one(arguments: &Revoke, config: &Config) -> Result<(), Failure> {
    let named = Named::by(arguments.id.as_deref())?;
    let store = OpenStore::to_change_if_there(config).await?;
    let store = store.ok_or_else(|| named.unknown())?;
    let tokens = &store.stores.tokens;
    let found = match &named {
        Named::Number(id) => tokens.find_by_id(*id).await?,
        Named::Itself(token) => tokens.find(&token.hash).await?,
    };
    let record = found.ok_or_else(|| named.unknown())?;
    let now = store.clock.now().wall();
    if tokens
        .revoke(Revocation::Id(record.id), now)
        .await?
        .is_empty()
    {
        store.close().await;
        return Err(Failure::other(ended_already(&record)));
    }
    store.wait_until_heard().await;
    audit::write(
        config,
        &AuditLine {
            event: "token_revoked",
            client_id: Some(record.client_id.as_str()),
            token_id: Some(record.id.0),
            ..audit::by_command(now)
        },
    );
    store.close().await;
    told(
        arguments,
        1,
        &format!(
            "revoked token {} of the client {}",
            record.id, record.client_id
        ),
    )
}

fn ended_already(record: &TokenRecord) -> String {
    match record.revoked {
        Some(at) => format!(
            "token {} was revoked at {} already.",
            record.id,
            output::time(at)
        ),
        None => format!(
            "token {} expired at {}; there is nothing to revoke.",
            record.id,
            output::time(record.expires)
        ),
    }
}

async fn many(arguments: &Revoke, config: &Config, which: Revocation) -> Result<(), Failure> {
    let Some(store) = OpenStore::to_change_if_there(config).await? else {
        return told(
            arguments,
            0,
            "there is no store, so there are no tokens to revoke",
        );
    };
    let now = store.clock.now().wall();
    let count = store.stores.tokens.revoke(which, now).await?.len();
    store.wait_until_heard().await;
    let detail = arguments
        .before
        .as_ref()
        .map(|before| format!("issued before {before}"));
    audit::write(
        config,
        &AuditLine {
            event: "token_revoked",
            client_id: arguments.client.as_ref().map(ClientId::as_str),
            detail: detail.as_deref(),
            count: Some(count as u64),
            ..audit::by_command(now)
        },
    );
    store.close().await;
    let plural = if count == 1 { "" } else { "s" };
    told(arguments, count, &format!("revoked {count} token{plural}"))
}

fn told(arguments: &Revoke, count: usize, words: &str) -> Result<(), Failure> {
    if arguments.json {
        return output::json(&json!({"revoked": count}));
    }
    output::say(words);
    Ok(())
}
