//! What each table means.

use std::time::Duration;

use super::{mistakes, read, read_env};
use crate::gate::settings::{HostPattern, IdentityKey, Mode};

/// Each text is one mistake, and its message holds the words.
fn each_is_one_mistake(cases: &[(&str, &str)]) {
    for (text, words) in cases {
        let told = mistakes(text);
        assert_eq!(told.len(), 1, "{text}: {told:#?}");
        assert!(told[0].contains(words), "{text}: {told:#?}");
    }
}

fn each_is_right(cases: &[&str]) {
    for text in cases {
        assert_eq!(mistakes(text), [] as [String; 0], "{text}");
    }
}

#[test]
fn listeners_are_apart_and_spelled_as_addresses() {
    each_is_one_mistake(&[
        (
            "[server]\nlisten = \"8080\"",
            "server.listen: \"8080\" is no address",
        ),
        (
            "[server]\nlisten = \"unix:/x\"",
            "not listen on Unix sockets yet",
        ),
        ("[server]\nlisten = []", "no address to listen on"),
        (
            "[server]\nlisten = [\"127.0.0.1:1\", \"127.0.0.1:1\"]",
            "twice",
        ),
        (
            "[server]\nlisten = [\"127.0.0.1:1\", \"x\"]",
            "server.listen[1]",
        ),
        (
            "[server]\nlisten = \"0.0.0.0:9090\"",
            "shared with the data listener",
        ),
        (
            "[server]\nadmin_listen = \"127.0.0.1:8080\"",
            "shared with the data listener",
        ),
        (
            "[[server]]\n",
            "must be a table and is a list; write [server]",
        ),
    ]);
    each_is_right(&[
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"",
        "[server]\nlisten = [\"0.0.0.0:80\", \"[::]:80\", \"localhost:81\"]",
    ]);
}

#[test]
fn bounds_of_the_server_hold() {
    each_is_one_mistake(&[
        ("[server]\nmax_header_bytes = \"4KiB\"", "8KiB"),
        ("[server]\nmax_header_bytes = \"2MiB\"", "1MiB"),
        ("[server]\nmax_headers = 0", "from 1 to 1000"),
        ("[server]\nmax_headers = 1001", "from 1 to 1000"),
        ("[server]\nmax_connections = 0", "from 1"),
        ("[server]\nworkers = -1", "from 0"),
        ("[server]\nworkers = 99999999999999999999999", "too large"),
        ("[server]\nheader_read_timeout = \"0s\"", "cannot be zero"),
        ("[server]\ndrain_timeout = 30", "must be a string"),
        ("[server]\nmax_body = \"lots\"", "\"unlimited\""),
        ("[server]\nmode = \"watch\"", "\"observe\""),
        (
            "[server]\ntrusted_proxies = [\"10.0.0.0/40\"]",
            "server.trusted_proxies[0]",
        ),
        ("[tokens]\naccess_token_ttl = \"10ms\"", "at least a second"),
        ("[tokens]\ndefault_scope = \"a\\\"b\"", "visible ASCII"),
    ]);
    each_is_right(&[
        "[server]\nmax_body = 0\nstream_idle_timeout = \"0s\"\ntrusted_proxies = [\"10.1.2.3/8\", \"::1\"]",
        "[tokens]\ncache_ttl = \"0s\"\ndefault_scope = \"\"",
    ]);
}

#[test]
fn an_upstream_is_scheme_host_and_port_alone() {
    for bad in [
        "",
        "127.0.0.1:3000",
        "ftp://x",
        "http://",
        "http://x/api",
        "http://x/",
        "http://x?y",
        "http://x#y",
        "http://u@x",
        "http://u:p@x",
        "http://x:0",
        "http://x:65536",
        "http://x:",
        "http://x:+1",
        "http://[::1",
        "http://[x]",
        "http://a b",
        "http://1.2.3",
        "http://x\\\\y",
        "unix:/run/app.sock",
    ] {
        let told = mistakes(&format!("[upstreams.b]\nurl = \"{bad}\""));
        assert_eq!(told.len(), 1, "{bad}: {told:?}");
        assert!(told[0].contains("upstreams.b.url"), "{told:?}");
    }
    let config = read(
        "[upstreams.b]\nurl = \"HTTPS://App.Internal\"\n[upstreams.c]\nurl = \"http://[::1]:81\"",
    )
    .unwrap();
    let seen: Vec<_> = config
        .upstreams
        .iter()
        .map(|u| (&*u.origin.host, u.origin.port, u.origin.tls))
        .collect();
    assert_eq!(
        seen,
        [
            ("app.internal", 443, true),
            ("::1", 81, false),
            ("127.0.0.1", 3000, false)
        ]
    );
    each_is_one_mistake(&[
        ("[upstreams.b]\n", "upstreams.b.url: it is missing"),
        (
            "[upstreams.b]\nurl = \"http://x\"\nserver_name = \"y\"",
            "only for https",
        ),
        (
            "[upstreams.b]\nurl = \"https://x\"\nserver_name = \"a b\"",
            "no server name",
        ),
        (
            "[upstreams.b]\nurl = \"https://x\"\nca = \"/absent/ca.pem\"",
            "cannot be read",
        ),
        (
            "[upstreams.b]\nurl = \"https://x\"\nclient_cert = \"/etc/passwd\"",
            "needs client_key too",
        ),
        (
            "[upstreams.b]\nurl = \"http://x\"\nconnect_timeout = \"0s\"",
            "cannot be zero",
        ),
        (
            "[upstreams.\"a b\"]\nurl = \"http://x\"",
            "name cannot be used",
        ),
    ]);
}

#[test]
fn an_upstream_that_is_needed_and_not_there_is_told() {
    for text in ["", "[[routes]]\npath = \"/a\"\n"] {
        let told = read_env(text, &[]).unwrap_err().to_string();
        assert!(
            told.contains("add [upstreams.default] with url = "),
            "{told}"
        );
    }
    let other = "[upstreams.app]\nurl = \"http://x\"\n[[routes]]\nupstream = \"app\"\n";
    assert_eq!(read_env(other, &[]).unwrap().routes[0].upstream, "app");
}

#[test]
fn route_paths_have_one_reading() {
    for bad in [
        "", "api", "/a?b", "/a#b", "/a;b", "/a//b", "/a/../b", "/.", "/a%2fb", "/a\\\\b", "/ä",
        "/a b",
    ] {
        let told = mistakes(&format!("[[routes]]\npath = \"{bad}\""));
        assert_eq!(told.len(), 1, "{bad}: {told:?}");
        assert!(told[0].contains("routes[0].path"), "{told:?}");
    }
    for (written, kept) in [("/", "/"), ("/api/", "/api"), ("/a.b/~c", "/a.b/~c")] {
        let config = read(&format!("[[routes]]\npath = \"{written}\"")).unwrap();
        assert_eq!(config.routes[0].path, kept);
    }
    each_is_one_mistake(&[
        (
            "[[routes]]\npath = \"/api/oauth2/server/tokens/\"",
            "answered by Sidegate itself",
        ),
        ("[routes]\npath = \"/a\"", "write [[routes]]"),
    ]);
}

#[test]
fn the_same_host_path_and_method_twice_is_a_mistake() {
    each_is_one_mistake(&[
        (
            "[[routes]]\npath = \"/a\"\n[[routes]]\npath = \"/a/\"",
            "routes[1]: routes[0] has the same host and path",
        ),
        (
            "[[routes]]\nhost = \"A.x\"\n[[routes]]\nhost = \"a.X\"",
            "routes[1]",
        ),
        (
            "[[routes]]\nmethods = [\"GET\"]\n[[routes]]\nmethods = [\"POST\", \"GET\"]",
            "for GET already",
        ),
        (
            "[[routes]]\nmethods = [\"GET\"]\n[[routes]]\nmethods = [\"HEAD\"]",
            "GET includes HEAD",
        ),
        (
            "[[routes]]\npath = \"/A\"\n[[routes]]\npath = \"/a\"",
            "letter case alone",
        ),
    ]);
    each_is_right(&[
        "[[routes]]\nmethods = [\"GET\"]\n[[routes]]\nmethods = [\"POST\"]\n[[routes]]",
        "[[routes]]\nhost = \"a.x\"\n[[routes]]\nhost = \"*.a.x\"\n[[routes]]",
    ]);
}

#[test]
fn hosts_and_methods_are_folded_or_refused() {
    let text = "[[routes]]\nhost = \"*.Example.COM\"\n[[routes]]\nhost = \"[::1]\"\n";
    let hosts: Vec<_> = read(text)
        .unwrap()
        .routes
        .into_iter()
        .map(|r| r.host)
        .collect();
    let below = HostPattern::Below("example.com".to_owned());
    assert_eq!(hosts, [below, HostPattern::Exact("[::1]".to_owned())]);
    for bad in [
        "*",
        "a:80",
        "http://a",
        "a.*.b",
        "a..b",
        "a.",
        "ä.example",
        "*.*.a",
    ] {
        assert_eq!(
            mistakes(&format!("[[routes]]\nhost = \"{bad}\"")).len(),
            1,
            "{bad}"
        );
    }
    each_is_one_mistake(&[
        ("[[routes]]\nmethods = [\"get\"]", "write \"GET\""),
        ("[[routes]]\nmethods = [\"A B\"]", "no method"),
        ("[[routes]]\nmethods = [\"TRACE\"]", "never forwarded"),
        ("[[routes]]\nmethods = \"GET\"", "must be a list"),
        ("[[routes]]\nscopes = [\"a b\"]", "routes[0].scopes[0]"),
        (
            "[[routes]]\nrate_limits = [\"per-client\"]",
            "add [rate_limits.per-client]",
        ),
        (
            "[[routes]]\nrate_limits = [\"failed-credentials\"]",
            "counts only what fails",
        ),
    ]);
}

#[test]
fn a_route_has_the_mode_of_the_server_unless_it_names_one() {
    let text = "[server]\nmode = \"observe\"\n[[routes]]\npath = \"/a\"\nmode = \"enforce\"\n[[routes]]\nmode = \"\"\n";
    let modes: Vec<_> = read(text).unwrap().routes.iter().map(|r| r.mode).collect();
    assert_eq!(modes, [Mode::Enforce, Mode::Observe]);
    assert_eq!(
        read("[server]\nmode = \"observe\"").unwrap().routes[0].mode,
        Mode::Observe
    );
}

#[test]
fn identity_headers_cannot_shadow_each_other_or_the_message() {
    for bad in [
        "",
        "X",
        "X-",
        "x-forwarded-",
        "Auth",
        "Content-",
        "X Auth-",
        "-X",
        "Cookie",
        "Å",
    ] {
        assert_eq!(
            mistakes(&format!("[identity]\nprefix = \"{bad}\"")).len(),
            1,
            "{bad}"
        );
    }
    for bad in [
        "Host",
        "authorization",
        "Cookie",
        "Content_Length",
        "TE",
        "X-Forwarded-User",
        "X-Request-ID",
        "a b",
        "a:b",
        "X-Auth-User_Id",
    ] {
        let told = mistakes(&format!("[identity.headers]\nuser_login = \"{bad}\""));
        assert_eq!(told.len(), 1, "{bad}: {told:?}");
        assert!(told[0].contains("identity.headers.user_login"), "{told:?}");
    }
    each_is_one_mistake(&[
        (
            "[identity.headers]\nuser_id = \"X-U\"\nuser_login = \"x_u\"",
            "identity.headers.user_login",
        ),
        (
            "[identity.headers]\nuser = \"X-U\"",
            "closest known key is user_",
        ),
    ]);
    let config = read(
        "[identity]\nprefix = \"Remote-\"\n[identity.headers]\nuser_login = \"X-WEBAUTH-USER\"",
    )
    .unwrap();
    let renamed = vec![(IdentityKey::UserLogin, "X-WEBAUTH-USER".to_owned())];
    assert_eq!(
        (config.identity.prefix.as_str(), config.identity.renamed),
        ("Remote-", renamed)
    );
}

#[test]
fn clients_are_checked_with_what_they_refer_to() {
    let client = |more: &str| format!("[[clients]]\nid = \"a\"\nsecret = \"s\"\n{more}");
    let cases = [
        (
            "[[clients]]\nid = \"b\"\nsecret = \"s\"\n[[clients]]\nid = \"b\"\nsecret = \"t\"",
            "clients[2].id",
        ),
        (
            "scopes = [\"read\"]\nsudo = [\"*\"]",
            "clients[0].sudo: the client has not the scope sudo",
        ),
        ("sudo = [\"user:1\"]", "clients[0].sudo[0]"),
        ("tenants = [\"name:1\"]", "clients[0].tenants[0]"),
        ("rate_limits = [\"x\"]", "there is no limit \"x\""),
    ];
    for (more, words) in cases {
        each_is_one_mistake(&[(&client(more), words)]);
    }
    each_is_one_mistake(&[
        (
            "[[clients]]\nid = \"a\"",
            "clients[0].secret: it is missing",
        ),
        (
            "[[clients]]\nsecret = \"s\"",
            "clients[0].id: it is missing",
        ),
    ]);
    let text = client("scopes = [\"sodu\"]\nsudo = [\"uid:*\"]\ntenants = []");
    let config = read(&text).unwrap();
    assert_eq!(config.clients[0].scopes.to_string(), "sodu");
    assert!(!config.clients[0].tenants.allows_id("7"));
    let config = read(&format!(
        "[tokens]\ndefault_scope = \"read\"\n{}",
        client("")
    ))
    .unwrap();
    assert_eq!(config.clients[0].scopes.to_string(), "read");
    assert!(config.clients[0].tenants.allows_code("any"));
}

#[test]
fn limits_say_what_they_count_and_how_much() {
    each_is_one_mistake(&[
        (
            "[rate_limits.x]\nrate = \"1/s\"",
            "rate_limits.x.key: it is missing",
        ),
        (
            "[rate_limits.x]\nkey = \"ip\"",
            "rate_limits.x.rate: it is missing",
        ),
        (
            "[rate_limits.x]\nkey = []\nrate = \"1/s\"",
            "counts by nothing",
        ),
        (
            "[rate_limits.x]\nkey = [\"ip\", \"ip\"]\nrate = \"1/s\"",
            "twice",
        ),
        ("[rate_limits.x]\nkey = \"ip\"\nrate = \"0/s\"", "no rate"),
        (
            "[rate_limits.x]\nkey = \"ip\"\nrate = \"1/s\"\nburst = 0",
            "from 1",
        ),
        (
            "[rate_limits.x]\nkey = \"ip\"\nrate = \"1/s\"\nmax_keys = 0",
            "from 1",
        ),
        (
            "[rate_limits.failed-credentials]\nkey = \"ip\"",
            "cannot be set",
        ),
        (
            "[rate_limits.failed-credentials]\nburts = 1",
            "closest known key is burst",
        ),
    ]);
    let config =
        read("[rate_limits.x]\nkey = [\"client\", \"route\"]\nrate = \"600/min\"").unwrap();
    let limit = config.rate_limits.iter().find(|l| l.name == "x").unwrap();
    assert_eq!(
        (limit.burst.get(), limit.rate.period),
        (600, Duration::from_secs(60))
    );
    assert!(
        config
            .rate_limits
            .iter()
            .any(|l| l.name == "failed-credentials")
    );
}

#[test]
fn the_store_is_a_file_and_own_endpoints_have_a_path() {
    for bad in [
        "",
        "sidegate.db",
        "sqlite:",
        "sqlite://x.db",
        "sqlite::memory:",
        "sqlite:a.db?mode=ro",
        "sqlite:dir/",
    ] {
        assert_eq!(
            mistakes(&format!("[store]\nurl = \"{bad}\"")).len(),
            1,
            "{bad}"
        );
    }
    each_is_one_mistake(&[
        (
            "[store]\nurl = \"postgres://h/d\"",
            "not have this kind of store yet",
        ),
        (
            "[endpoints]\noauth2_server = \"/\"",
            "cannot live at the root",
        ),
        ("[endpoints]\noauth2_server = \"x\"", "slash"),
        ("[endpoints]\noauth2 = \"/oauth2\"", "not have this key yet"),
    ]);
    assert_eq!(
        read("[endpoints]\noauth2_server = \"\"")
            .unwrap()
            .endpoints
            .oauth2_server,
        None
    );
    let config = read("[endpoints]\noauth2_server = \"/t/\"").unwrap();
    assert_eq!(config.endpoints.oauth2_server.as_deref(), Some("/t"));
}
