//! `sidegate check`: every mistake in the configuration, and nothing started.

use super::failure::{Code, Failure};
use super::place::Place;
use super::{help, output};
use crate::config::Config;

/// Say every mistake in the configuration at once
///
/// Reads the configuration with the environment's overrides and the files it names, exactly as
/// `serve` would, and starts nothing. Each mistake is told with file, line, column, the key and how it
/// is mended, on standard error; then it ends with 78.
#[derive(Debug, clap::Args)]
#[command(after_long_help = help!(
    "  sidegate check -c /etc/sidegate/config.toml\n  \
       sidegate check --json | jq -r '.[] | \"\\(.line): \\(.key): \\(.message)\"'"
))]
pub(super) struct Arguments {
    /// Print the mistakes as one JSON array of objects on standard output; an empty one when there
    /// are none
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, place: &Place) -> Result<(), Failure> {
    match place.read() {
        Ok(_) if arguments.json => output::line("[]"),
        Ok(config) => output::line(&format!(
            "{}: no mistakes\n{}",
            place.file().display(),
            summary(&config)
        )),
        Err(mistakes) => {
            if arguments.json {
                let array = serde_json::to_value(&mistakes)
                    .map_err(|error| Failure::other(format!("cannot write JSON: {error}.")))?;
                output::json(&array)?;
            } else {
                output::say(&mistakes.to_string());
            }
            Err(Failure::Silent(Code::Configuration))
        }
    }
}

/// What would be run, in a few lines.
fn summary(config: &Config) -> String {
    let joined = |texts: Vec<String>| match texts.is_empty() {
        true => "none".to_owned(),
        false => texts.join(", "),
    };
    let listen = config.server.listen.iter().map(ToString::to_string);
    let upstreams = config.upstreams.iter().map(|upstream| {
        let origin = &upstream.origin;
        let scheme = if origin.tls { "https" } else { "http" };
        let host = match origin.host.contains(':') {
            true => format!("[{}]", origin.host),
            false => origin.host.clone(),
        };
        format!("{} = {scheme}://{host}:{}", upstream.name, origin.port)
    });
    let clients = config.clients.iter().map(|client| client.id.to_string());
    let limits = config.rate_limits.iter().map(|limit| limit.name.clone());
    let crate::store::settings::Settings::Sqlite(store) = &config.store;
    format!(
        "  listens on    {}, admin {}\n  \
           upstreams     {}\n  \
           routes        {}\n  \
           clients here  {}\n  \
           rate limits   {}\n  \
           store         {}",
        joined(listen.collect()),
        config.server.admin_listen,
        joined(upstreams.collect()),
        config.routes.len(),
        joined(clients.collect()),
        joined(limits.collect()),
        store.display(),
    )
}
