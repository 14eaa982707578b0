//! Commands beside a sidecar that runs, which is another process started by a command.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::desk::{Desk, Ended, FREE_PORTS, Running, ask};

/// `sidegate dev` on ports of its own, and what it printed.
struct Dev {
    desk: Desk,
    process: Running,
    shown: Value,
}

impl Dev {
    fn start() -> Self {
        let desk = Desk::new();
        let arguments = ["dev", "--json", "--listen", "127.0.0.1:0", "--dir", "demo"];
        let mut process = desk.start(&arguments);
        let shown = serde_json::from_str(&process.first_line()).unwrap();
        Self {
            desk,
            process,
            shown,
        }
    }

    fn text(&self, member: &str) -> String {
        self.shown[member].as_str().unwrap().to_owned()
    }

    /// Address and port behind a URL that was printed.
    fn addr(&self, member: &str) -> String {
        self.text(member)
            .strip_prefix("http://")
            .unwrap()
            .to_owned()
    }

    /// A command that is given the configuration of the demo.
    fn run(&self, arguments: &[&str]) -> Ended {
        let config = ["-c", "demo/config.toml"];
        self.desk.run(&[&config[..], arguments].concat())
    }

    fn get(&self, target: &str, token: &str) -> (String, String) {
        let head = format!("GET {target} HTTP/1.1\r\nAuthorization: Bearer {token}");
        ask(&self.addr("listen"), &head)
    }
}

#[test]
fn the_demo_shows_what_it_is_for_with_lines_to_paste() {
    let dev = Dev::start();
    let lines: Vec<_> = dev.shown["curl"].as_array().unwrap().clone();
    assert_eq!(lines.len(), 3);
    let curl = Command::new("curl")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    if curl.is_err() {
        eprintln!("SKIPPED: there is no curl here, so the demo's lines were not pasted");
        return;
    }
    // The last first: each works by itself.
    let paste = |at: usize| {
        let line = lines[at].as_str().unwrap();
        assert!(line.starts_with("curl ") && !line.contains('\n'), "{line}");
        let output = Command::new("sh").args(["-c", line]).output().unwrap();
        let ended = Ended::of(&output).succeeded();
        assert!(ended.err.is_empty(), "{ended:?}");
        ended.out
    };
    let refused = paste(2);
    assert!(refused.starts_with("HTTP/1.1 401 "), "{refused}");
    assert!(refused.contains("\"missing_token\""), "{refused}");
    let seen: Value = serde_json::from_str(&paste(1)).unwrap();
    let header = |name: &str| {
        let all = seen["headers"].as_array().unwrap();
        let found = all.iter().find(|pair| pair[0] == name);
        found.map(|pair| pair[1].as_str().unwrap().to_owned())
    };
    assert_eq!(header("X-Auth-Client-Id").as_deref(), Some("demo-app"));
    assert_eq!(
        header("X-Auth-User-Email").as_deref(),
        Some("li.lei@example.com")
    );
    assert_eq!(header("X-Auth-Tenant-Code").as_deref(), Some("ACME"));
    assert_eq!(header("Authorization"), None);
    assert_eq!(
        (&seen["path"], &seen["query"]),
        (&"/hello".into(), &Value::Null)
    );
    let issued: Value = serde_json::from_str(&paste(0)).unwrap();
    let token = issued["access_token"].as_str().unwrap();
    assert_eq!(dev.get("/", token).0, "HTTP/1.1 200 OK");
}

#[test]
fn the_demo_ends_with_0_on_a_signal_and_starts_again_where_it_was() {
    let mut dev = Dev::start();
    let token = dev.text("token");
    let demo = dev.desk.dir.path().join("demo");
    for private in ["demo-secret", "config.toml"] {
        let mode = fs::metadata(demo.join(private))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o077, 0, "{private}");
    }
    dev.process.signal("INT");
    assert_eq!(dev.process.code(), Some(0));
    let arguments = ["dev", "--json", "--listen", "127.0.0.1:0", "--dir", "demo"];
    let mut again = dev.desk.start(&arguments);
    dev.shown = serde_json::from_str(&again.first_line()).unwrap();
    assert_eq!(dev.get("/", &token).0, "HTTP/1.1 200 OK");
}

#[test]
fn the_demo_says_in_words_that_it_is_not_for_production() {
    let desk = Desk::new();
    let mut dev = desk.start(&["dev", "--listen", "127.0.0.1:0"]);
    let mut words = String::new();
    let mut out = BufReader::new(dev.0.stdout.take().unwrap());
    while !words.contains("Ctrl-C") {
        assert_ne!(out.read_line(&mut words).unwrap(), 0, "{words}");
    }
    assert!(words.contains("NOT for production"), "{words}");
    assert_eq!(
        words
            .lines()
            .filter(|line| line.starts_with("curl "))
            .count(),
        3
    );
    assert!(desk.dir.path().join(".sidegate-dev/sidegate.db").exists());
}

#[test]
fn what_a_command_did_holds_when_it_returns() {
    let dev = Dev::start();
    let made = dev
        .run(&["token", "issue", "--client", "demo-app"])
        .succeeded();
    let token = made.only_line();
    assert_eq!(dev.get("/", &token).0, "HTTP/1.1 200 OK");
    let listed = dev.run(&["token", "list", "--json"]).succeeded().json();
    let id = listed[0]["id"].to_string();
    dev.run(&["token", "revoke", &id]).succeeded();
    assert_eq!(dev.get("/", &token).0, "HTTP/1.1 401 Unauthorized");

    let secret = dev.run(&["client", "add", "late"]).succeeded().only_line();
    let tokens = |secret: &str| {
        let target = format!(
            "/api/oauth2/server/tokens?grant_type=client_credentials&client_id=late&client_secret={secret}"
        );
        ask(&dev.addr("listen"), &format!("GET {target} HTTP/1.1"))
    };
    let (status, body) = tokens(&secret);
    assert_eq!(status, "HTTP/1.1 200 OK");
    let token: Value = serde_json::from_str(&body).unwrap();
    let token = token["access_token"].as_str().unwrap();
    let rotated = dev
        .run(&["client", "rotate-secret", "late"])
        .succeeded()
        .only_line();
    assert_eq!(tokens(&secret).0, "HTTP/1.1 401 Unauthorized");
    assert_eq!(tokens(&rotated).0, "HTTP/1.1 200 OK");
    assert_eq!(dev.get("/", token).0, "HTTP/1.1 200 OK");
    dev.run(&["client", "remove", "late"]).succeeded();
    assert_eq!(dev.get("/", token).0, "HTTP/1.1 401 Unauthorized");
    assert_eq!(tokens(&rotated).0, "HTTP/1.1 401 Unauthorized");
}

#[test]
fn a_drained_sidecar_is_unready_and_still_serves() {
    let dev = Dev::start();
    dev.run(&["health"]).succeeded();
    dev.run(&["drain"]).succeeded();
    dev.run(&["health"])
        .ended_with(1)
        .saying(&["not ready", "503"]);
    assert_eq!(dev.get("/", &dev.text("token")).0, "HTTP/1.1 200 OK");
    assert_eq!(
        ask(&dev.addr("admin"), "GET /livez HTTP/1.1").0,
        "HTTP/1.1 200 OK"
    );
}

#[test]
fn a_port_in_use_by_another_sidecar_ends_with_69_and_is_named() {
    let dev = Dev::start();
    let addr = dev.addr("listen");
    let server = format!("[server]\nlisten = \"{addr}\"\nadmin_listen = \"127.0.0.1:0\"\n");
    Desk::with(&server)
        .run(&["serve"])
        .ended_with(69)
        .saying(&[&addr]);
    Desk::new()
        .run(&["dev", "--listen", &addr])
        .ended_with(69)
        .saying(&[&addr]);
}

#[test]
fn serve_logs_where_it_listens_outlives_sighup_and_ends_with_0_on_sigterm() {
    let desk = Desk::with(FREE_PORTS);
    let mut command = desk.command(&["serve"]);
    let mut serve = Running(command.stderr(Stdio::piped()).spawn().unwrap());
    let mut log = BufReader::new(serve.0.stderr.take().unwrap()).lines();
    let mut until = |word: &str| {
        let mut lines = log.by_ref().map(Result::unwrap);
        lines
            .find(|line| line.contains(word))
            .unwrap_or_else(|| panic!("no {word} in the log"))
    };
    let started: Value = serde_json::from_str(&until("sidegate serves")).unwrap();
    assert!(
        started["fields"]["listen"]
            .to_string()
            .contains("127.0.0.1:"),
        "{started}"
    );
    serve.signal("HUP");
    until("SIGHUP");
    serve.signal("TERM");
    until("winding down");
    assert_eq!(serve.code(), Some(0));
}

#[test]
fn a_second_signal_ends_it_at_once_with_1() {
    let mut dev = Dev::start();
    let addr = dev.addr("listen");
    let mut unfinished = TcpStream::connect(&addr).unwrap();
    let token = dev.text("token");
    // Answered only when the body has ended, which it never does.
    write!(
        unfinished,
        "POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 9\r\n\r\n1"
    )
    .unwrap();
    assert_eq!(dev.get("/", &token).0, "HTTP/1.1 200 OK");
    dev.process.signal("TERM");
    while TcpStream::connect(&addr).is_ok() {
        std::thread::yield_now();
    }
    dev.process.signal("TERM");
    assert_eq!(dev.process.code(), Some(1));
}
