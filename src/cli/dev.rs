//! `sidegate dev`: the whole thing on one machine with nothing to prepare.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::failure::Failure;
use super::place::{OpenStore, Place};
use super::signals::Signals;
use super::{echo, health, help, output, serve};
use crate::base::secret::Secret;
use crate::clients::SecretDigest;
use crate::config::{self, Config};
use crate::tokens::issue::issue;

const CLIENT: &str = "demo-app";
const SECRET_FILE: &str = "demo-secret";
const CONFIG_FILE: &str = "config.toml";
const DEFAULT_LISTEN: SocketAddr = loopback(8080);
const DEFAULT_ADMIN: SocketAddr = loopback(9090);
const FREE_PORT: SocketAddr = loopback(0);

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port)
}

/// Try Sidegate on this machine, with nothing to prepare
///
/// Starts a backend that answers with what it was sent, and the sidecar in front of it, with a
/// store, a configuration and one demo client below `./.sidegate-dev`. Prints the addresses, the
/// credentials and three `curl` lines to paste: issue a token, call through as a user in a tenant,
/// be refused without a token. Ctrl-C ends it. NOT for production: its credentials are printed, and
/// its backend is nobody's.
#[derive(Debug, clap::Args)]
#[command(after_long_help = help!(
    "  sidegate dev\n  \
       sidegate dev --listen 127.0.0.1:8081 --dir /tmp/try\n  \
       sidegate dev --json > demo.json &          for scripts\n  \
       sidegate token list -c .sidegate-dev/config.toml   while it runs"
))]
pub(super) struct Arguments {
    /// Where clients call; port 0 takes a free one [default: 127.0.0.1:8080, or a free port when
    /// that is in use]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Where health and metrics are [default: 127.0.0.1:9090, or a free port]
    #[arg(long, value_name = "ADDR")]
    admin_listen: Option<SocketAddr>,
    /// Where the store, the configuration and the demo client's secret are kept
    #[arg(long, value_name = "DIR", default_value = "./.sidegate-dev")]
    dir: PathBuf,
    /// Print one JSON object instead of words
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, place: &Place) -> Result<(), Failure> {
    if place.is_named() {
        output::say(&format!(
            "sidegate dev makes a configuration of its own and does not read {}",
            place.file().display()
        ));
    }
    serve::in_control_plane(dev(arguments))
}

async fn dev(arguments: &Arguments) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let secret = prepare(&arguments.dir)?;
    let backend = echo::listen(FREE_PORT).await?;
    let backend_addr = backend
        .local_addr()
        .map_err(|error| Failure::other(format!("the echo backend has no address: {error}.")))?;
    tokio::spawn(crate::echo::serve(backend, std::future::pending()));

    let (listen, admin) = addresses(arguments);
    let mut written = Written {
        listen,
        admin,
        backend: backend_addr,
    };
    let config = written.write(&arguments.dir)?;
    let token = first_token(&config).await?;
    let running = serve::start(config).await?;
    // Commands that are given this configuration find the sidecar at the ports it really has.
    written.listen = running.data_addrs().first().copied().unwrap_or(listen);
    written.admin = running.admin_addr();
    written.write(&arguments.dir)?;

    let shown = Shown {
        written: &written,
        dir: &arguments.dir,
        secret: &secret,
        token: &token,
    };
    if arguments.json {
        output::json(&shown.json())?;
    } else {
        output::line(&shown.words())?;
    }
    signals.any().await;
    serve::wind_down(running, &mut signals).await
}

/// Makes the directory and a fresh secret in it, for nobody else to read.
fn prepare(dir: &Path) -> Result<Secret, Failure> {
    let (secret, _) = SecretDigest::make()
        .map_err(|_| Failure::other("the system gives no random bytes. Try again."))?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| not_written(dir, &error))?;
    // A demo's secrets are not to be committed by accident.
    write_private(&dir.join(".gitignore"), "*\n")?;
    write_private(&dir.join(SECRET_FILE), secret.expose())?;
    Ok(secret)
}

/// Writes a file anew: never through a link that was there, never readable for others.
fn write_private(file: &Path, text: &str) -> Result<(), Failure> {
    let written = match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(file)
            .and_then(|mut file| file.write_all(text.as_bytes())),
    };
    written.map_err(|error| not_written(file, &error))
}

fn not_written(file: &Path, error: &io::Error) -> Failure {
    Failure::other(format!(
        "cannot write {}: {error}. Run it in a directory you may write to, or name one with --dir.",
        file.display()
    ))
}

/// What was asked for; of the defaults, what is free.
fn addresses(arguments: &Arguments) -> (SocketAddr, SocketAddr) {
    let listen = arguments
        .listen
        .unwrap_or_else(|| free_or_any(DEFAULT_LISTEN));
    // Who takes any free port for the one does not mean a fixed port for the other.
    let any = arguments.listen.is_some_and(|listen| listen.port() == 0);
    let admin = match arguments.admin_listen {
        Some(admin) => admin,
        None if any => FREE_PORT,
        None => free_or_any(DEFAULT_ADMIN),
    };
    (listen, admin)
}

fn free_or_any(wanted: SocketAddr) -> SocketAddr {
    match TcpListener::bind(wanted) {
        Ok(_) => wanted,
        Err(error) => {
            output::say(&format!(
                "{wanted} cannot be had ({error}), so a free port is taken instead"
            ));
            FREE_PORT
        }
    }
}

/// A token that is there from the start, so that every line works by itself.
async fn first_token(config: &Config) -> Result<Secret, Failure> {
    let store = OpenStore::to_change(config).await?;
    let client = config
        .clients
        .first()
        .ok_or_else(|| Failure::other("the demo client is missing."))?;
    let now = store.clock.now().wall();
    let ttl = config.tokens.access_token_ttl;
    let scopes = client.scopes.clone();
    let issued = issue(&*store.stores.tokens, &client.id, scopes, ttl, now)
        .await
        .map_err(|error| Failure::unavailable(format!("no token could be issued: {error}.")))?;
    store.close().await;
    Ok(issued.token)
}

/// The configuration of the demo.
struct Written {
    listen: SocketAddr,
    admin: SocketAddr,
    backend: SocketAddr,
}

impl Written {
    /// Writes it and reads it as any other, without what the environment would override.
    fn write(&self, dir: &Path) -> Result<Config, Failure> {
        let file = dir.join(CONFIG_FILE);
        write_private(&file, &self.text())?;
        config::load(&file, std::iter::empty())
            .map_err(|mistakes| Failure::configuration(mistakes.to_string()))
    }

    fn text(&self) -> String {
        let Self {
            listen,
            admin,
            backend,
        } = self;
        format!(
            r#"# Written by `sidegate dev` at every start. Not for production.
[server]
listen = "{listen}"
admin_listen = "{admin}"
drain_timeout = "2s"

[log]
format = "text"

[upstreams.default]
url = "http://{backend}"

[store]
url = "sqlite:sidegate.db"

[[clients]]
id = "{CLIENT}"
secret = {{ file = "{SECRET_FILE}" }}
scopes = ["sudo"]
"#
        )
    }
}

/// What a person or a script needs to know.
struct Shown<'a> {
    written: &'a Written,
    dir: &'a Path,
    secret: &'a Secret,
    token: &'a Secret,
}

impl Shown<'_> {
    fn proxy(&self) -> String {
        format!("http://{}", health::reachable(self.written.listen))
    }

    fn admin(&self) -> String {
        format!("http://{}", health::reachable(self.written.admin))
    }

    fn config(&self) -> String {
        self.dir.join(CONFIG_FILE).display().to_string()
    }

    /// Each works by itself, in any order, in any POSIX shell.
    fn curl_lines(&self) -> [String; 3] {
        let (proxy, secret, token) = (self.proxy(), self.secret.expose(), self.token.expose());
        [
            format!(
                "curl -sS -d grant_type=client_credentials -d client_id={CLIENT} -d client_secret={secret} '{proxy}/api/oauth2/server/tokens'"
            ),
            format!(
                "curl -sS -H 'Authorization: Bearer {token}' '{proxy}/hello?sudo=email:li.lei@example.com&tenantCode=ACME'"
            ),
            format!("curl -sS -i '{proxy}/hello'"),
        ]
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "listen": self.proxy(),
            "admin": self.admin(),
            "backend": format!("http://{}", self.written.backend),
            "config": self.config(),
            "client_id": CLIENT,
            "client_secret": self.secret.expose(),
            "token": self.token.expose(),
            "curl": self.curl_lines(),
        })
    }

    fn words(&self) -> String {
        let [issue, call, refused] = self.curl_lines();
        let mut text = String::from(
            "Sidegate runs, to be tried on this machine. NOT for production: its credentials are\n\
             printed here, and anybody on this machine can reach its backend without them.\n\n",
        );
        let mut row = |name: &str, value: &str, what: &str| {
            let _ = writeln!(text, "  {name:<14} {value:<28} {what}");
        };
        row("proxy", &self.proxy(), "what clients call");
        row("admin", &self.admin(), "/livez, /readyz, /metrics");
        row(
            "backend",
            &format!("http://{}", self.written.backend),
            "answers with what it was sent",
        );
        row(
            "configuration",
            &self.config(),
            "for -c of other commands while this runs",
        );
        row("client_id", CLIENT, "");
        row("client_secret", self.secret.expose(), "");
        row("token", self.token.expose(), "");
        let text: Vec<_> = text.lines().map(str::trim_end).collect();
        format!(
            "{}\n\nIssue a token:\n{issue}\n\nCall through as a user, in a tenant:\n{call}\n\n\
             Be refused without a token:\n{refused}\n\nCtrl-C ends it.",
            text.join("\n")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_for_nobody_else_and_follows_no_link() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = dir.path().join("elsewhere");
        fs::write(&elsewhere, "kept").unwrap();
        let demo = dir.path().join("demo");
        fs::create_dir(&demo).unwrap();
        symlink(&elsewhere, demo.join(SECRET_FILE)).unwrap();
        let secret = prepare(&demo).unwrap();
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "kept");
        let file = demo.join(SECRET_FILE);
        assert_eq!(fs::read_to_string(&file).unwrap(), secret.expose());
        let mode = fs::symlink_metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_default_port_in_use_is_mended_and_one_that_was_asked_for_is_not() {
        let taken = TcpListener::bind(FREE_PORT).unwrap();
        let addr = taken.local_addr().unwrap();
        assert_eq!(free_or_any(addr), FREE_PORT);
        let arguments = Arguments {
            listen: Some(addr),
            admin_listen: Some(addr),
            dir: PathBuf::new(),
            json: false,
        };
        assert_eq!(addresses(&arguments), (addr, addr));
    }
}
