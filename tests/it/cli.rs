//! The commands of contract §1 as a shell sees them: exit codes, what is on which output, shapes.

use std::fs;

use serde_json::Value;

use crate::desk::{Desk, Ended, FREE_PORTS, ask};

#[test]
fn help_and_version_are_no_mistakes_and_go_to_standard_output() {
    let desk = Desk::new();
    for arguments in [
        &["--help"][..],
        &["--version"],
        &["-h"],
        &["help", "token"],
        &["client", "add", "--help"],
        &["dev", "--help"],
    ] {
        let ended = desk.run(arguments).succeeded();
        assert!(!ended.out.is_empty() && ended.err.is_empty(), "{ended:?}");
    }
    let dev = desk.run(&["dev", "--help"]).out;
    assert!(dev.contains("NOT for production") && dev.contains("curl"));
    let add = desk.run(&["client", "add", "--help"]).out;
    assert!(add.contains("one time") && add.contains("--secret-stdin"));
}

#[test]
fn wrong_usage_ends_with_64_and_says_something() {
    let desk = Desk::new();
    for arguments in [
        &[][..],
        &["sreve"],
        &["serve", "--tkae-over"],
        &["client", "add"],
        &["client", "add", "a b"],
        &["client", "add", "x", "--scope", "a\"b"],
        &["client", "add", "x", "--sudo", "uid:*", "--scope", "read"],
        &["client", "add", "x", "--sudo", "nobody"],
        &["client", "add", "x", "--tenant", "7"],
        &["client", "rotate-secret", "x", "--overlap", "soon"],
        &["token", "issue", "--client", "filed", "--ttl", "0s"],
        &["token", "issue"],
        &["token", "revoke"],
        &["token", "revoke", "7", "--client", "filed"],
        &["token", "revoke", "--before", "yesterday"],
        &["token", "revoke", "--token-stdin"],
        &["token", "inspect"],
        &["token", "inspect", "7", "--token-stdin"],
        &["explain", "GET"],
        &["explain", "GET", "orders"],
        &["explain", "GET", "/", "-H", "no header"],
        &["echo"],
        &["echo", "--listen", "here"],
    ] {
        let ended = desk.run(arguments).ended_with(64);
        assert!(!ended.err.is_empty() && ended.out.is_empty(), "{ended:?}");
    }
}

#[test]
fn a_token_in_the_place_of_its_number_is_never_repeated() {
    let desk = Desk::new();
    let token = desk.issue(&[]);
    for arguments in [
        &["token", "revoke", &token][..],
        &["token", "inspect", &token],
        &["token", "inspect", "7", &token],
        &["token", &token],
        &["token", "issue", "--ttl", &token, "--client", "filed"],
        &["explain", "GET", "/", "-H", &token],
        &["explain", &token, "no url", "-H", "a: b"],
    ] {
        let ended = desk.run(arguments).ended_with(64);
        assert!(!ended.err.contains(&token[4..]), "{ended:?}");
    }
}

#[test]
fn the_configuration_is_named_by_argument_then_environment_then_found_here() {
    let desk = Desk::new();
    let other = desk.dir.path().join("other.toml");
    fs::rename(desk.config(), &other).unwrap();
    let other = other.to_str().unwrap();
    desk.run(&["check"]).ended_with(78).saying(&["config.toml"]);
    desk.run(&["token", "list"]).ended_with(78).saying(&[
        "config.toml",
        "--config",
        "sidegate dev",
    ]);
    desk.run(&["check", "-c", other]).succeeded();
    desk.run(&["--config", other, "check"]).succeeded();
    let mut command = desk.command(&["check"]);
    let by_env = command.env("SIDEGATE_CONFIG", other).output().unwrap();
    Ended::of(&by_env).succeeded();
    let mut command = desk.command(&["check", "-c", "nowhere.toml"]);
    let both = command.env("SIDEGATE_CONFIG", other).output().unwrap();
    Ended::of(&both).ended_with(78).saying(&["nowhere.toml"]);
}

#[test]
fn every_command_that_needs_a_configuration_ends_with_78_without_a_right_one() {
    let desk = Desk::with("[serevr]\n");
    for arguments in [
        &["serve"][..],
        &["check"],
        &["explain", "GET", "/"],
        &["client", "add", "x"],
        &["client", "list"],
        &["client", "remove", "x"],
        &["client", "rotate-secret", "x"],
        &["token", "issue", "--client", "filed"],
        &["token", "list"],
        &["token", "inspect", "1"],
        &["token", "revoke", "1"],
        &["drain"],
    ] {
        desk.run(arguments)
            .ended_with(78)
            .saying(&["serevr", "server"]);
    }
    // A probe knows two answers only.
    desk.run(&["health"]).ended_with(1).saying(&["serevr"]);
    assert!(!desk.dir.path().join("sidegate.db").exists());
}

#[test]
fn check_says_every_mistake_at_once_and_an_empty_array_when_there_is_none() {
    let desk = Desk::new();
    let fine = desk.run(&["check"]).succeeded();
    assert!(
        fine.out.starts_with("config.toml: no mistakes\n"),
        "{fine:?}"
    );
    assert_eq!(desk.json(&["check", "--json"]), serde_json::json!([]));

    fs::write(desk.config(), "[server]\nlisten = 7\nworkers = \"x\"\n[upstreams.default]\nurl = \"http://127.0.0.1:1\"\n").unwrap();
    let wrong = desk.run(&["check"]).ended_with(78);
    assert!(wrong.out.is_empty(), "{wrong:?}");
    let wrong = wrong.saying(&["config.toml:2:", "config.toml:3:", "server.listen"]);
    let array = desk.run(&["check", "--json"]).ended_with(78).json();
    assert_eq!(array.as_array().unwrap().len(), 2, "{wrong:?}");
    assert_eq!(array[0]["line"], 2);
    assert_eq!(array[0]["key"], "server.listen");

    fs::remove_file(desk.config()).unwrap();
    fs::create_dir(desk.config()).unwrap();
    desk.run(&["check"]).ended_with(78).saying(&["directory"]);
}

#[test]
fn a_made_secret_stands_alone_on_standard_output_and_nowhere_else() {
    let desk = Desk::new();
    let ended = desk.run(&["client", "add", "made"]).succeeded();
    let secret = ended.only_line();
    assert_eq!(secret.len(), 43);
    assert!(!ended.err.contains(&secret), "{ended:?}");

    let ended = desk.run(&["client", "rotate-secret", "made"]).succeeded();
    let rotated = ended.only_line();
    assert_ne!(rotated, secret);
    assert!(!ended.err.contains(&rotated), "{ended:?}");

    let shown = desk.json(&["client", "add", "other", "--json"]);
    assert_eq!(shown.as_object().unwrap().len(), 2);
    assert_eq!(shown["client_id"], "other");
    assert_eq!(shown["client_secret"].as_str().unwrap().len(), 43);

    for kept in fs::read_dir(desk.dir.path()).unwrap() {
        let kept = kept.unwrap().path();
        if kept.is_file() {
            let bytes = fs::read(&kept).unwrap();
            let holds = |text: &str| bytes.windows(text.len()).any(|w| w == text.as_bytes());
            assert!(!holds(&secret) && !holds(&rotated), "{}", kept.display());
        }
    }
}

#[test]
fn a_brought_secret_is_not_shown() {
    let desk = Desk::new();
    let arguments = ["client", "add", "brought", "--secret-stdin"];
    let ended = desk
        .run_with_input(&arguments, "hunter2-hunter2\n")
        .succeeded();
    assert!(ended.out.is_empty(), "{ended:?}");
    assert!(!ended.err.contains("hunter2"), "{ended:?}");
    desk.run_with_input(&["client", "add", "empty", "--secret-stdin"], "\n")
        .ended_with(64)
        .saying(&["standard input"]);
    let listed = desk.json(&["client", "list", "--json"]);
    assert_eq!(listed.as_array().unwrap().len(), 2);
}

#[test]
fn a_client_is_added_listed_and_removed() {
    let desk = Desk::new();
    desk.run(&[
        "client",
        "add",
        "desk",
        "--scope",
        "sudo",
        "--scope",
        "read",
        "--sudo",
        "uid:7*",
        "--tenant",
        "code:ACME",
    ])
    .succeeded();
    desk.run(&["client", "add", "desk"])
        .ended_with(1)
        .saying(&["desk", "rotate-secret"]);
    let listed = desk.json(&["client", "list", "--json"]);
    let by_id = |id: &str| {
        let all = listed.as_array().unwrap();
        all.iter().find(|c| c["client_id"] == id).unwrap().clone()
    };
    let added = by_id("desk");
    assert_eq!(added["origin"], "store");
    assert_eq!(added["scopes"], serde_json::json!(["sudo", "read"]));
    assert_eq!(added["sudo"], serde_json::json!(["uid:7*"]));
    assert_eq!(added["tenants"], serde_json::json!(["code:ACME"]));
    assert_eq!(added["secrets"], serde_json::json!([{"ends": null}]));
    assert!(added["created"].as_str().unwrap().ends_with('Z'));
    assert_eq!(by_id("filed")["origin"], "file");
    assert!(!listed.to_string().contains("horse"), "{listed}");

    let table = desk.run(&["client", "list"]).succeeded().out;
    let column = |line: &str, text: &str| line.find(text);
    let lines: Vec<_> = table.lines().collect();
    let origin = column(lines[0], "ORIGIN");
    assert!(origin.is_some(), "{table}");
    assert_eq!(column(lines[1], "store"), origin, "{table}");
    assert_eq!(
        column(lines[2], " file "),
        origin.map(|at| at - 1),
        "{table}"
    );

    desk.run(&["client", "remove", "desk"]).succeeded();
    desk.run(&["client", "remove", "desk"]).ended_with(1);
    assert_eq!(
        desk.json(&["client", "list", "--json"])
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn a_client_that_takes_the_id_of_one_taken_out_of_the_file_gets_none_of_its_tokens() {
    let desk = Desk::new();
    desk.run(&["token", "issue", "--client", "filed"])
        .succeeded();
    let text = fs::read_to_string(desk.config()).unwrap();
    fs::write(desk.config(), text.replace("\"filed\"", "\"renamed\"")).unwrap();
    desk.run(&["client", "add", "filed"]).succeeded();
    let found = desk.json(&["token", "inspect", "1", "--json"]);
    assert_eq!(found["state"], "revoked", "{found}");
}

#[test]
fn a_client_without_scopes_of_its_own_gets_the_default_ones() {
    let desk = Desk::with("[tokens]\ndefault_scope = \"read write\"\n");
    desk.run(&["client", "add", "plain"]).succeeded();
    let listed = desk.json(&["client", "list", "--json"]);
    assert_eq!(listed[1]["scopes"], serde_json::json!(["read", "write"]));
    assert_eq!(listed[1]["sudo"], serde_json::json!([]));
}

#[test]
fn a_client_of_the_file_is_changed_in_the_file() {
    let desk = Desk::new();
    for arguments in [
        &["client", "add", "filed"][..],
        &["client", "remove", "filed"],
        &["client", "rotate-secret", "filed"],
    ] {
        let ended = desk.run(arguments).ended_with(1).saying(&["config.toml"]);
        assert!(ended.out.is_empty(), "{ended:?}");
    }
}

#[test]
fn rotating_with_an_overlap_keeps_the_old_secret_for_that_long() {
    let desk = Desk::new();
    desk.run(&["client", "add", "turned"]).succeeded();
    desk.run(&["client", "rotate-secret", "turned", "--overlap", "24h"])
        .succeeded();
    let listed = desk.json(&["client", "list", "--json"]);
    let secrets = listed[1]["secrets"].as_array().unwrap().clone();
    let ending = secrets.iter().filter(|secret| secret["ends"].is_string());
    assert_eq!((secrets.len(), ending.count()), (2, 1), "{listed}");
    desk.run(&["client", "rotate-secret", "nobody"])
        .ended_with(1);
}

#[test]
fn an_issued_token_stands_alone_on_standard_output() {
    let desk = Desk::new();
    let ended = desk
        .run(&["token", "issue", "--client", "filed"])
        .succeeded();
    let token = ended.only_line();
    assert!(token.starts_with("sgt_"), "{token}");
    assert!(!ended.err.contains(&token), "{ended:?}");

    let arguments = [
        "token", "issue", "--client", "filed", "--ttl", "10m", "--scope", "read", "--json",
    ];
    let shown = desk.json(&arguments);
    assert_eq!(shown.as_object().unwrap().len(), 5, "{shown}");
    assert!(shown["access_token"].as_str().unwrap().starts_with("sgt_"));
    assert_eq!(shown["token_type"], "bearer");
    assert_eq!(shown["expires_in"], "600");
    assert_eq!(shown["scope"], "read");
    assert!(shown["id"].is_i64());
    let shown = desk.json(&["token", "issue", "--client", "filed", "--json"]);
    assert_eq!(shown["expires_in"], "43200");
    assert_eq!(shown["scope"], "sudo read");
}

#[test]
fn no_token_is_issued_to_a_stranger_or_with_a_scope_its_client_has_not() {
    let desk = Desk::new();
    for arguments in [
        &["token", "issue", "--client", "nobody"][..],
        &["token", "issue", "--client", "filed", "--scope", "admin"],
    ] {
        let ended = desk.run(arguments).ended_with(1);
        assert!(ended.out.is_empty(), "{ended:?}");
    }
    assert_eq!(
        desk.json(&["token", "list", "--all", "--json"]),
        serde_json::json!([])
    );
}

#[test]
fn tokens_are_listed_inspected_and_revoked_by_number_or_from_standard_input() {
    let desk = Desk::new();
    let (first, second) = (desk.issue(&[]), desk.issue(&["--scope", "read"]));
    let listed = desk.json(&["token", "list", "--json"]);
    let text = listed.to_string();
    assert!(!text.contains(&first) && !text.contains(&second), "{text}");
    let id = listed[0]["id"].to_string();
    assert_eq!(listed[0]["scope"], "read");
    assert_eq!(listed[0]["client_id"], "filed");
    assert_eq!(listed[0]["state"], "live");
    assert!(listed[0]["expires"].as_str().unwrap().ends_with('Z'));

    let by_number = desk.json(&["token", "inspect", &id, "--json"]);
    assert_eq!(by_number, listed[0]);
    let arguments = ["token", "inspect", "--token-stdin", "--json"];
    let by_token = desk.run_with_input(&arguments, &second).succeeded().json();
    assert_eq!(by_token, listed[0]);
    let words = desk.run(&["token", "inspect", &id]).succeeded().out;
    assert!(words.contains("filed") && words.contains("live"), "{words}");

    desk.run(&["token", "revoke", &id]).succeeded();
    desk.run(&["token", "revoke", &id])
        .ended_with(1)
        .saying(&["already"]);
    desk.run_with_input(&["token", "revoke", "--token-stdin"], &format!("{first}\n"))
        .succeeded();
    assert_eq!(
        desk.json(&["token", "list", "--json"]),
        serde_json::json!([])
    );
    let all = desk.json(&["token", "list", "--all", "--json"]);
    assert_eq!(all[0]["state"], "revoked");
    assert!(all[1]["revoked"].is_string());
    desk.run(&["token", "inspect", "999"]).ended_with(1);
    desk.run_with_input(&["token", "inspect", "--token-stdin"], "sgt_made-up")
        .ended_with(1)
        .saying(&["none of Sidegate's tokens"]);
}

#[test]
fn many_tokens_are_revoked_by_client_or_by_age() {
    let desk = Desk::new();
    desk.run(&["client", "add", "other", "--scope", "read"])
        .succeeded();
    for client in ["filed", "filed", "other"] {
        desk.run(&["token", "issue", "--client", client])
            .succeeded();
    }
    let revoked = desk.json(&["token", "revoke", "--before", "24h", "--json"]);
    assert_eq!(revoked, serde_json::json!({"revoked": 0}));
    let revoked = desk.json(&["token", "revoke", "--client", "filed", "--json"]);
    assert_eq!(revoked, serde_json::json!({"revoked": 2}));
    let revoked = desk.json(&[
        "token",
        "revoke",
        "--before",
        "2098-01-01T00:00:00Z",
        "--json",
    ]);
    assert_eq!(revoked, serde_json::json!({"revoked": 1}));
    let listed = desk.json(&["token", "list", "--client", "other", "--all", "--json"]);
    assert_eq!(listed.as_array().unwrap().len(), 1);
}

#[test]
fn every_change_leaves_an_audit_line_that_names_no_secret() {
    let desk = Desk::new();
    let mut seen = Vec::new();
    for arguments in [
        &["client", "add", "watched"][..],
        &["client", "rotate-secret", "watched"],
        &["token", "issue", "--client", "watched"],
        &["token", "revoke", "--client", "watched"],
        &["client", "remove", "watched"],
    ] {
        let ended = desk.run(arguments).succeeded();
        let audit = ended.audit();
        assert_eq!(audit.len(), 1, "{ended:?}");
        assert_eq!(audit[0]["kind"], "audit");
        assert_eq!(audit[0]["actor"], "cli");
        assert_eq!(audit[0]["client_id"], "watched");
        seen.push(audit[0]["event"].as_str().unwrap().to_owned());
        let secret = ended.out.trim();
        assert!(
            secret.is_empty() || !ended.err.contains(secret),
            "{ended:?}"
        );
    }
    let expected = "client_added client_secret_rotated token_issued token_revoked client_removed";
    assert_eq!(seen.join(" "), expected);
}

#[test]
fn what_nobody_could_see_is_taken_back() {
    let desk = Desk::new();
    desk.run_unwritable(&["client", "add", "unseen"])
        .ended_with(1)
        .saying(&["standard output", "removed again"]);
    assert_eq!(
        desk.json(&["client", "list", "--json"])
            .as_array()
            .unwrap()
            .len(),
        1
    );
    desk.run_unwritable(&["token", "issue", "--client", "filed"])
        .ended_with(1)
        .saying(&["standard output", "revoked"]);
    assert_eq!(
        desk.json(&["token", "list", "--json"]),
        serde_json::json!([])
    );
    desk.run(&["client", "add", "turned"]).succeeded();
    desk.run_unwritable(&["client", "rotate-secret", "turned"])
        .ended_with(1)
        .saying(&["lost"]);
    for arguments in [
        &["client", "list"][..],
        &["token", "list", "--json"],
        &["check"],
        &["--help"],
        &["explain", "GET", "/"],
    ] {
        desk.run_unwritable(arguments)
            .ended_with(1)
            .saying(&["standard output"]);
    }
}

#[test]
fn explain_says_405_for_a_method_that_an_own_endpoint_does_not_take() {
    let desk = Desk::new();
    for (method, path, says) in [
        ("DELETE", "/api/oauth2/server/tokens", "405"),
        ("HEAD", "/api/oauth2/server/tokens", "405"),
        ("GET", "/api/oauth2/server/tokens", "answers this itself"),
        (
            "HEAD",
            "/api/oauth2/server/tokens/check",
            "answers this itself",
        ),
    ] {
        let told = desk.run(&["explain", method, path]).succeeded();
        assert!(told.out.contains(says), "{method} {path}: {told:?}");
    }
}

#[test]
fn a_reader_that_went_away_ends_a_listing_quietly() {
    let desk = Desk::new();
    for arguments in [
        &["client", "list"][..],
        &["check"],
        &["explain", "GET", "/"],
        &["--help"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = desk.command(arguments).stdout(writer).output().unwrap();
        let ended = Ended::of(&output).succeeded();
        assert!(ended.err.is_empty(), "{ended:?}");
    }
}

#[test]
fn without_a_running_sidecar_health_is_1_and_drain_69() {
    // A port that was bound a moment ago and is free now.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = free.local_addr().unwrap();
    drop(free);
    let desk = Desk::with(&format!("[server]\nadmin_listen = \"{addr}\"\n"));
    desk.run(&["health"]).ended_with(1).saying(&["/readyz"]);
    desk.run(&["drain"])
        .ended_with(69)
        .saying(&["no running sidecar"]);
}

#[test]
fn a_store_that_is_none_ends_with_69_and_is_named() {
    let desk = Desk::with(FREE_PORTS);
    fs::write(
        desk.dir.path().join("sidegate.db"),
        "this is no database at all, not even near\n".repeat(100),
    )
    .unwrap();
    for arguments in [
        &["client", "list"][..],
        &["client", "add", "x"],
        &["token", "issue", "--client", "filed"],
        &["token", "revoke", "--client", "filed"],
        &["serve"],
    ] {
        desk.run(arguments).ended_with(69).saying(&["sidegate.db"]);
    }
}

#[test]
fn reading_makes_no_store() {
    let desk = Desk::new();
    desk.json(&["client", "list", "--json"]);
    desk.json(&["token", "list", "--json"]);
    desk.run(&["token", "inspect", "1"]).ended_with(1);
    desk.run(&["token", "revoke", "1"]).ended_with(1);
    desk.run(&["token", "revoke", "--client", "filed"])
        .succeeded();
    desk.run(&["explain", "GET", "/"]).succeeded();
    assert!(!desk.dir.path().join("sidegate.db").exists());
}

#[test]
fn explain_tells_each_step_and_ends_with_0_whatever_the_verdict() {
    let desk = Desk::new();
    let refused = desk.run(&["explain", "GET", "/orders"]).succeeded().out;
    assert!(refused.contains("missing_token"), "{refused}");

    let token = desk.issue(&[]);
    let bearer = format!("Authorization: Bearer {token}");
    let arguments = [
        "explain",
        "GET",
        "https://api.example/orders?sudo=uid:7&a=b&tenantId=3",
        "-H",
        &bearer,
    ];
    let passed = desk.run(&arguments).succeeded().out;
    for expected in [
        "forwarded",
        "uid:7",
        "id:3",
        "x-auth-client-id: filed",
        "GET /orders?a=b",
    ] {
        assert!(
            passed.to_lowercase().contains(&expected.to_lowercase()),
            "{expected} in {passed}"
        );
    }
    assert!(!passed.contains(&token[4..]), "{passed}");

    let in_query = format!("/orders?access_token={token}");
    let passed = desk.run(&["explain", "GET", &in_query]).succeeded().out;
    assert!(
        passed.contains("forwarded") && !passed.contains(&token[4..]),
        "{passed}"
    );

    let own = desk
        .run(&["explain", "GET", "/api/oauth2/server/tokens"])
        .succeeded()
        .out;
    assert!(own.contains("Sidegate answers"), "{own}");
    let framing = desk.run(&["explain", "GET", "/", "-H", "Host: a", "-H", "Host: b"]);
    assert!(framing.succeeded().out.contains("400 invalid_request"));
}

#[test]
fn echo_prints_its_address_answers_there_and_ends_with_0_on_a_signal() {
    let desk = Desk::new();
    let mut echo = desk.start(&["echo", "--listen", "127.0.0.1:0"]);
    let url = echo.first_line();
    let addr = url.strip_prefix("http://").unwrap();
    let (status, body) = ask(addr, "GET /a?b HTTP/1.1");
    assert_eq!(status, "HTTP/1.1 200 OK");
    let seen: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&seen["path"], &seen["query"]), (&"/a".into(), &"b".into()));

    desk.run(&["echo", "--listen", addr])
        .ended_with(69)
        .saying(&[addr, "port"]);
    echo.signal("TERM");
    assert_eq!(echo.code(), Some(0));
}
