//! `sidegate explain`: what the sidecar would do with a request, step by step; nothing is sent.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, Request, Uri, request};
use tokio::runtime::Handle;

use super::explain_store::NoStore;
use super::failure::Failure;
use super::place::{OpenStore, Place, block_on};
use super::{help, output};
use crate::base::clock::Clock;
use crate::clients::ClientStore;
use crate::clients::registry::Registry;
use crate::config::Config;
use crate::endpoints;
use crate::gate::explain::explain;
use crate::gate::{Gate, Rules, Way};
use crate::limits::Limits;
use crate::observe::request_id::RequestId;
use crate::refusal::Refusal;
use crate::server::{Peer, framing, peer};
use crate::tokens::TokenStore;
use crate::tokens::verify::{Verdict, Verifier, Watcher};

/// Say step by step what would happen to a request, and send nothing
///
/// Takes the request through the very steps that `serve` takes it through, under this configuration
/// and with the tokens and clients of its store, and prints what each of them finds: which route, which
/// credential, whom it acts as, what would be forwarded. Secrets are never printed. Ends with 0
/// whatever the verdict. Limits are looked at as if nothing had been spent.
#[derive(Debug, clap::Args)]
#[command(after_long_help = help!(
    "  sidegate explain GET /orders\n  \
       sidegate explain GET 'https://api.example.com/orders?sudo=uid:7&tenantId=3' \\\n      \
         -H \"Authorization: Bearer $TOKEN\"\n  \
       sidegate explain POST /orders -H 'X-Forwarded-For: 192.0.2.1' --from 10.0.0.1"
))]
pub(super) struct Arguments {
    /// The method: GET, POST, …
    #[arg(value_name = "METHOD")]
    method: String,
    /// A URL, or a path with or without a query
    #[arg(value_name = "URL")]
    url: String,
    /// A header line of the request; repeat it for several
    #[arg(short = 'H', long = "header", value_name = "'NAME: VALUE'")]
    headers: Vec<String>,
    /// The address that the request comes from
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    from: IpAddr,
}

pub(super) fn run(arguments: &Arguments, place: &Place) -> Result<(), Failure> {
    let parts = request(arguments)?;
    let config = place.load()?;
    block_on(tell(parts, arguments.from, &config))
}

/// The head that a client would send. What the arguments hold is not repeated: it may be a secret.
fn request(arguments: &Arguments) -> Result<request::Parts, Failure> {
    let method = Method::from_bytes(arguments.method.as_bytes()).map_err(|_| {
        Failure::usage("METHOD is none: write GET, POST or another method of HTTP.")
    })?;
    let unreadable = || {
        Failure::usage(
            "URL can be a path such as /orders?page=2, or an http or https URL. Put it in quotes, and \
             write spaces and other special characters percent-encoded, as a client would send them.",
        )
    };
    let (target, authority) = if arguments.url.starts_with('/') {
        let target: PathAndQuery = arguments.url.parse().map_err(|_| unreadable())?;
        (target, None)
    } else {
        let uri: Uri = arguments.url.parse().map_err(|_| unreadable())?;
        match (uri.scheme_str(), uri.authority()) {
            (Some("http" | "https"), Some(authority)) if !authority.as_str().contains('@') => {
                let target = uri.path_and_query().cloned();
                let target = target.unwrap_or(PathAndQuery::from_static("/"));
                (target, Some(authority.to_string()))
            }
            _ => return Err(unreadable()),
        }
    };
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = method;
    parts.uri = Uri::from(target);
    for (at, line) in arguments.headers.iter().enumerate() {
        let (name, value) = header(line).ok_or_else(|| {
            Failure::usage(format!(
                "-H number {} is no header line: write -H 'Name: value'.",
                at + 1
            ))
        })?;
        parts.headers.append(name, value);
    }
    if !parts.headers.contains_key(HOST) {
        let host = authority.unwrap_or_else(|| "localhost".to_owned());
        let host = HeaderValue::from_str(&host).map_err(|_| unreadable())?;
        parts.headers.insert(HOST, host);
    }
    Ok(parts)
}

fn header(line: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = line.split_once(':')?;
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    let value = HeaderValue::from_bytes(value.trim_matches([' ', '\t']).as_bytes()).ok()?;
    Some((name, value))
}

async fn tell(parts: request::Parts, from: IpAddr, config: &Config) -> Result<(), Failure> {
    // As the server does: framing first, then who calls, then whether it is ours to answer.
    let framed = match framing::check(&parts) {
        Ok(framed) => framed,
        Err(refusal) => return refused(&refusal),
    };
    if let Some(own) = endpoints::describe(&config.endpoints, parts.uri.path()) {
        if !own
            .allow
            .split(", ")
            .any(|one| one == parts.method.as_str())
        {
            return refused(&Refusal::method_not_allowed(own.allow.to_owned()));
        }
        return output::line(&format!(
            "{:<11}Sidegate answers this itself: {}; nothing is forwarded",
            "endpoint", own.does
        ));
    }
    let host = framed.host.into_owned();
    let host_header = framed.host_header.unwrap_or(HeaderValue::from_static(""));
    let local = config.server.listen.first().copied();
    let peer = Peer {
        addr: SocketAddr::new(from, 0),
        local: local.unwrap_or(SocketAddr::new(from, 0)),
    };
    let client = peer::client(&peer, &parts.headers, &config.server.trusted_proxies);
    output::line(&format!("{:<11}{}", "client", client.ip))?;

    let store = OpenStore::if_there(config).await?;
    let clock = Clock::system();
    let gate = gate(config, store.as_ref(), &clock).await?;
    let request_id = RequestId::of(&parts.headers);
    let way = Way {
        peer_ip: from,
        trusted: client.trusted,
        scheme: "http",
        host_header: &host_header,
        request_id: request_id.header_value(),
    };
    let story = explain(&gate, parts, &host, client.ip, &way, clock.now()).await;
    if store.is_none() {
        output::line(&format!(
            "{:<11}there is none yet, so only clients of the configuration and no tokens are known",
            "store"
        ))?;
    }
    if let Some(store) = store {
        store.close().await;
    }
    output::line(story.to_string().trim_end())
}

/// Says it as the gate's own explanation does.
fn refused(refusal: &Refusal) -> Result<(), Failure> {
    let word = refusal.word();
    output::line(&format!(
        "{:<11}refused with {} {}: {}",
        "verdict",
        word.status().as_u16(),
        word.as_str(),
        refusal.detail()
    ))
}

/// The gate that `serve` would build.
async fn gate(
    config: &Config,
    store: Option<&OpenStore<'_>>,
    clock: &Clock,
) -> Result<Gate, Failure> {
    let (tokens, clients): (Arc<dyn TokenStore>, Arc<dyn ClientStore>) = match store {
        Some(store) => (
            Arc::clone(&store.stores.tokens),
            Arc::clone(&store.stores.clients),
        ),
        None => (Arc::new(NoStore), Arc::new(NoStore)),
    };
    let registry = Registry::new(config.clients.clone(), clients);
    registry.load().await?;
    let verifier = Verifier::new(
        &config.tokens,
        tokens,
        Handle::current(),
        clock.clone(),
        Arc::new(Nobody),
    );
    let limits = Arc::new(Limits::new(&config.rate_limits, None));
    let rules = Rules::new(config.routes.clone(), &config.identity, limits);
    Ok(Gate::new(Arc::new(rules), verifier, Arc::new(registry)))
}

/// Watches nothing: there are no metrics here.
struct Nobody;

impl Watcher for Nobody {
    fn looked_up(&self, _: &Verdict) {}
    fn store_read(&self, _: bool) {}
    fn store_is_up(&self, _: bool) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &str, url: &str, headers: &[&str]) -> Result<request::Parts, Failure> {
        request(&Arguments {
            method: method.to_owned(),
            url: url.to_owned(),
            headers: headers.iter().map(|line| (*line).to_owned()).collect(),
            from: IpAddr::V4(Ipv4Addr::LOCALHOST),
        })
    }

    #[test]
    fn a_url_becomes_a_target_and_a_host() {
        for (url, target, host) in [
            ("/a?b=c", "/a?b=c", "localhost"),
            ("//a", "//a", "localhost"),
            ("http://x:8080", "/", "x:8080"),
            ("https://X.example/a?b#c", "/a?b", "X.example"),
        ] {
            let parts = asked("GET", url, &[]).unwrap();
            assert_eq!(parts.uri.to_string(), target, "{url}");
            assert_eq!(parts.headers[HOST], host, "{url}");
        }
        let parts = asked("GET", "http://x/", &["Host: y"]).unwrap();
        assert_eq!(parts.headers[HOST], "y");
    }

    #[test]
    fn arguments_that_are_no_request_are_wrong_usage_and_not_repeated() {
        for (method, url, header) in [
            ("G T", "/", "A: b"),
            ("GET", "ftp://x/hunter2", "A: b"),
            ("GET", "http://a:hunter2@x/", "A: b"),
            ("GET", "orders", "A: b"),
            ("GET", "/a b", "A: b"),
            ("GET", "/", "Authorization hunter2"),
            ("GET", "/", "A: hunter2\nB: c"),
        ] {
            match asked(method, url, &[header]).unwrap_err() {
                Failure::Told(super::super::failure::Code::Usage, text) => {
                    assert!(!text.contains("hunter2"), "{text}");
                }
                other => panic!("{url}: {other:?}"),
            }
        }
    }
}
