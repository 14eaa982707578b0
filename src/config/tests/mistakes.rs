//! Every mistake is told, with its place and its mend.

use std::path::Path;

use super::super::{Config, load};
use super::{UPSTREAM, env, mistakes, read, read_env};

#[test]
fn all_mistakes_are_told_at_once_with_place_key_and_mend_sorted_by_place() {
    let text = "[server]\nlisten = 8080\nlistne = \"x\"\nidle_timeout = \"0s\"\n[[routes]]\npath = \"api\"\naccess = \"requird\"\nupstream = \"defualt\"\n\n[rate_limits.x]\nkey = \"cleint\"\nrate = \"fast\"\n";
    let error = read_env(&format!("{UPSTREAM}{text}"), &[]).unwrap_err();
    let told: Vec<_> = error
        .iter()
        .map(|m| (m.line.unwrap() - 2, m.column.unwrap(), m.key.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (2, 10, "server.listen"),
            (3, 1, "server.listne"),
            (4, 16, "server.idle_timeout"),
            (6, 8, "routes[0].path"),
            (7, 10, "routes[0].access"),
            (8, 12, "routes[0].upstream"),
            (11, 7, "rate_limits.x.key"),
            (12, 8, "rate_limits.x.rate"),
        ]
    );
    let shown = error.to_string();
    assert!(
        shown.starts_with("/etc/sidegate/config.toml:4:10: server.listen: "),
        "{shown}"
    );
    assert!(
        shown.contains("unknown key; the closest known key is listen\n"),
        "{shown}"
    );
    assert!(shown.contains("the closest is \"required\""), "{shown}");
    assert!(shown.ends_with("\n8 mistakes"), "{shown}");
}

#[test]
fn the_machine_form_is_a_list_of_objects() {
    let error = read("[log]\nlevel = \"loud\"\n").unwrap_err();
    let json = serde_json::to_value(&error).unwrap();
    let one = json
        .as_array()
        .unwrap()
        .first()
        .unwrap()
        .as_object()
        .unwrap();
    let keys: std::collections::BTreeSet<_> = one.keys().map(String::as_str).collect();
    let expected = ["file", "line", "column", "key", "message", "mend"];
    assert_eq!(keys, expected.into());
    assert_eq!(one["key"], "log.level");
}

#[test]
fn syntax_errors_do_not_end_the_reading() {
    let told = mistakes(
        "[server]\nlisten = \"unclosed\nmax_headers = 0\n[log]\nlevel = = 3\nformat = \"xml\"\n",
    );
    let lines: Vec<_> = told.iter().map(|m| m.split(':').next().unwrap()).collect();
    assert_eq!(lines, ["2", "3", "5", "6"], "{told:#?}");
}

#[test]
fn a_broken_line_is_not_called_missing_too() {
    let told =
        Config::from_text("[upstreams.default]\nurl = http://x\n", Path::new("/"), []).unwrap_err();
    assert_eq!(told.len(), 1, "{told}");
}

#[test]
fn a_key_twice_is_told_by_its_name() {
    let told = mistakes("[log]\nlevel = \"info\"\nlevel = \"warn\"\n");
    assert_eq!(told, ["3: log.level: duplicate key; keep one of the two"]);
    let told = mistakes("[[routes]]\npath = \"/\"\n[[routes]]\npath = \"/a\"\npath = \"/b\"\n");
    assert!(
        told.contains(&"5: routes[1].path: duplicate key; keep one of the two".to_owned()),
        "{told:?}"
    );
}

#[test]
fn keys_of_later_versions_are_told_as_such() {
    for (text, key) in [
        ("[server]\npublic_url = \"\"\n", "server.public_url"),
        ("[server.tls]\ncert = \"x\"\n", "server.tls"),
        ("[admin]\ntoken = \"hunter2\"\n", "admin.token"),
        ("[egress]\nlisten = \"\"\n", "egress"),
        ("[otlp]\nendpoint = \"\"\n", "otlp"),
        (
            "[[routes]]\nstrip_prefix = \"/a\"\n",
            "routes[0].strip_prefix",
        ),
    ] {
        let told = mistakes(text);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].contains(key) && told[0].contains("not have this"),
            "{told:?}"
        );
        assert!(!told[0].contains("hunter2"));
    }
}

#[test]
fn no_message_repeats_a_secret() {
    let texts = [
        "[[clients]]\nid = \"a\"\nsecret = [\"hunter2\"]\n",
        "[[clients]]\nid = \"a\"\nsecret = { env = \"hunter-2 hunter2\" }\n",
        "[[clients]]\nid = \"a\"\nsecret = { value = \"hunter2\" }\n",
        "[[clients]]\nid = \"a b\"\nsecret = \"hunter2\"\n",
        "[[clients]]\nid = \"a\"\nsecret = hunter2\n",
        "[[clients]]\nid = \"a\"\nsecret = \"hunter2\n",
        "[[clients]]\nid = \"a\"\nsecret = \"x\nhunter2 = 5\n\"\n",
        "[[clients]]\nid = \"a\"\nsecret = { env = \"X\", env = \"hunter2\" }\n",
        "[[clients]]\nid = \"a\"\nsecret = \"\"\"x\nhunter2 = 5\n\"\"\n",
        "[upstreams.b]\nurl = \"http://u:hunter2@host\"\n",
        "[upstreams.b]\nurl = \"u:hunter2@host\"\n",
        "[store]\nurl = \"postgres://u:hunter2@host/db\"\n",
        "[store]\nurl = \"mysql://u:hunter2@host/db\"\n",
    ];
    for text in texts {
        let told = read(text).unwrap_err().to_string();
        assert!(!told.contains("hunter2"), "{told}");
        assert!(!format!("{:?}", read(text)).contains("hunter2"));
    }
    let good = read("[[clients]]\nid = \"a\"\nsecret = \"hunter2\"\n").unwrap();
    assert!(!format!("{good:?}").contains("hunter2"));
    let pairs = [("SIDEGATE__CLIENTS__0__SECRT", "hunter2")];
    let told = read_env(UPSTREAM, &pairs).unwrap_err().to_string();
    assert!(!told.contains("hunter2"), "{told}");
}

#[test]
fn secrets_come_from_text_variables_and_files() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [("good", "from file\n\n"), ("empty", "\n")] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    std::fs::write(dir.path().join("binary"), b"\xff").unwrap();
    let read = |secret: &str| {
        let text = format!("{UPSTREAM}[[clients]]\nid = \"a\"\nsecret = {secret}\n");
        let pairs = [("GIVEN", "from env"), ("EMPTY", "")];
        Config::from_text(&text, dir.path(), env(&pairs))
    };
    for (secret, is) in [
        ("\"literal\"", "literal"),
        ("{ env = \"GIVEN\" }", "from env"),
        ("{ file = \"good\" }", "from file\n"),
    ] {
        let config = read(secret).unwrap();
        assert!(config.clients[0].secrets[0].digest.matches(is), "{secret}");
    }
    for (secret, message) in [
        ("\"\"", "empty"),
        ("{ env = \"ABSENT\" }", "ABSENT is not set"),
        ("{ env = \"EMPTY\" }", "EMPTY is empty"),
        ("{ file = \"absent\" }", "cannot be read"),
        ("{ file = \".\" }", "is a directory"),
        ("{ file = \"empty\" }", "is empty"),
        ("{ file = \"binary\" }", "not UTF-8"),
        ("{ env = \"GIVEN\", file = \"good\" }", "two sources"),
        ("{}", "no source"),
        ("3", "no secret"),
    ] {
        let told = read(secret).unwrap_err();
        assert_eq!(told.len(), 1, "{told}");
        assert!(told.to_string().contains(message), "{secret}: {told}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_told_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let huge = vec![b'#'; (1 << 20) + 1];
    for (path, message) in [
        (dir.path().join("absent"), "there is no such file"),
        (dir.path().to_owned(), "this is a directory"),
        (
            file("latin", b"a = 1\n\xe4"),
            "latin:2:1: the text is not UTF-8",
        ),
        (file("huge", &huge), "larger than 1 MiB"),
    ] {
        let told = load(&path, []).unwrap_err().to_string();
        assert!(told.contains(message), "{told}");
        assert!(told.ends_with("1 mistake"), "{told}");
    }
}

#[test]
fn relative_paths_start_from_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.toml");
    std::fs::write(
        &file,
        format!("\u{feff}{UPSTREAM}[admin]\nsocket = \"s\"\n"),
    )
    .unwrap();
    let config = load(&file, []).unwrap();
    assert_eq!(config.admin.socket, Some(dir.path().join("s")));
    let store = crate::store::settings::Settings::Sqlite(dir.path().join("sidegate.db"));
    assert_eq!(config.store, store);
    assert_eq!(config.file, file);
}
