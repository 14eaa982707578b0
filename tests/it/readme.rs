//! The README keeps its promises: every configuration in it loads, every command in it runs, every table in
//! it is the program's own.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use http::Response;
use http_body_util::Full;
use serde_json::Value;
use sidegate::observe::metrics;
use sidegate::refusal::Word;
use tempfile::TempDir;

use crate::harness::outside::{Process, Served, found_all, free_port, run, run_well};
use crate::harness::{Backend, Call, Sidegate, eventually, program};

const README: &str = include_str!("../../README.md");
const EXAMPLE: &str = include_str!("../../config.example.toml");

/// What stands in the fenced blocks of this language, without the indentation of the list they are in.
fn blocks(language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<(usize, String, String)> = None;
    for line in README.lines() {
        let text = line.trim_start();
        if let Some((indent, language_of, mut block)) = open.take() {
            if text == "```" {
                if language_of == language {
                    found.push(block);
                }
            } else {
                block.push_str(line.get(indent..).unwrap_or_default());
                block.push('\n');
                open = Some((indent, language_of, block));
            }
        } else if let Some(language) = text.strip_prefix("```") {
            open = Some((line.len() - text.len(), language.to_owned(), String::new()));
        }
    }
    assert!(open.is_none(), "a block is not closed");
    assert!(!found.is_empty(), "no block of {language}");
    found
}

/// The rows of the table whose head begins so, cell by cell.
fn table(head: &str) -> Vec<Vec<String>> {
    let start = README
        .lines()
        .position(|line| line.starts_with(&format!("| {head} |")))
        .unwrap_or_else(|| panic!("no table {head}"));
    README
        .lines()
        .skip(start + 2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells = line.trim_matches('|').split(" | ");
            cells.map(|cell| cell.trim().to_owned()).collect()
        })
        .collect()
}

/// What stands between backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

// ---------------------------------------------------------------- configurations and commands

#[test]
fn every_configuration_of_the_readme_loads() {
    let folder = TempDir::new().unwrap();
    let blocks = blocks("toml");
    assert_eq!(blocks.len(), 2);
    for (number, block) in blocks.iter().enumerate() {
        let file = folder.path().join(format!("{number}.toml"));
        std::fs::write(&file, block).unwrap();
        let env = [(
            "HELPDESK_SECRET".to_owned(),
            "a-secret-of-its-own".to_owned(),
        )];
        if let Err(mistakes) = sidegate::config::load(&file, env) {
            panic!("{mistakes}\n{block}");
        }
    }
}

#[test]
fn the_variables_that_the_readme_names_override_what_it_says() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("config.toml");
    std::fs::write(&file, &blocks("toml")[1]).unwrap();
    let mut env: Vec<(String, String)> = README
        .split('`')
        .filter_map(|text| text.split_once('='))
        .filter(|(name, _)| name.starts_with("SIDEGATE__"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    assert_eq!(env.len(), 3, "{env:?}");
    env.push((
        "HELPDESK_SECRET".to_owned(),
        "a-secret-of-its-own".to_owned(),
    ));
    let config = sidegate::config::load(&file, env).unwrap();
    assert_eq!(config.server.listen[0].to_string(), "127.0.0.1:8081");
    assert_eq!(config.upstreams[0].origin.port, 3001);
    assert_eq!(
        config.routes[0].access,
        sidegate::gate::settings::Access::Optional
    );
}

/// Lines of `sh` blocks, continued ones as one.
fn shell_lines() -> Vec<String> {
    blocks("sh")
        .concat()
        .replace("\\\n", " ")
        .lines()
        .map(str::to_owned)
        .collect()
}

/// What a line asks `sidegate` to do: the words after the name, up to what the shell takes.
fn sidegate_words(line: &str) -> Option<Vec<String>> {
    let at = line
        .match_indices("sidegate ")
        .map(|(at, _)| at)
        .find(|at| *at == 0 || line[..*at].ends_with([' ', '(']))?;
    let rest = &line[at + "sidegate ".len()..];
    let end = rest.find([')', '|', '>', '&', ';']).unwrap_or(rest.len());
    Some(rest[..end].split_whitespace().map(str::to_owned).collect())
}

#[test]
fn every_command_and_flag_in_the_readme_is_one_of_the_program() {
    let mut looked_at = 0;
    let quoted_commands = README
        .split('`')
        .filter(|text| text.starts_with("sidegate ") && !text.contains('\n'))
        .map(str::to_owned);
    for line in shell_lines().into_iter().chain(quoted_commands) {
        let Some(words) = sidegate_words(&line) else {
            continue;
        };
        let path: Vec<_> = words
            .iter()
            .take(if ["client", "token"].contains(&words[0].as_str()) {
                2
            } else {
                1
            })
            .filter(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '-'))
            .collect();
        let output = program().args(&path).arg("--help").output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{line}: {path:?}");
        for flag in words.iter().filter(|word| word.starts_with('-')) {
            let known = help.split([' ', ',', '\n']).any(|word| word == flag);
            assert!(known, "{line}: {flag} is not in the help of {path:?}");
        }
        looked_at += 1;
    }
    assert!(looked_at > 12, "{looked_at}");
}

#[test]
fn the_first_two_commands_are_dev_and_the_tests() {
    let lines = shell_lines();
    assert_eq!(
        &lines[..2],
        ["cargo run --release -- dev", "cargo test"].map(str::to_owned)
    );
}

/// The steps of "In front of your own service" as they stand there, only on ports that are free.
#[tokio::test]
async fn the_steps_in_front_of_ones_own_service_work_as_written() {
    let folder = TempDir::new().unwrap();
    let service = Backend::recording().await;
    let (data, admin) = (free_port(), free_port());
    let here = |text: &str| {
        text.replace("3000", &service.addr.port().to_string())
            .replace("8080", &data.to_string())
    };
    std::fs::write(folder.path().join("config.toml"), here(&blocks("toml")[0])).unwrap();

    let blocks = blocks("sh");
    let at = |first: &str| blocks.iter().position(|block| block.starts_with(first));
    let begin = at("sidegate check").unwrap();
    assert_eq!(blocks[begin], "sidegate check\nsidegate serve\n");
    let mut check = in_folder(program(), &folder, data, admin);
    check.arg("check");
    assert!(run_well(check).await.contains("no mistakes"));
    let mut serve = in_folder(program(), &folder, data, admin);
    serve.arg("serve");
    let mut serve = Process::start(&mut serve, &folder.path().join("log"));
    eventually("it is ready", async || {
        serve.expect_alive();
        let mut health = in_folder(program(), &folder, data, admin);
        health.arg("health");
        run(health).await.status.success()
    })
    .await;

    if !found_all(&["curl"], "apt-get install curl") {
        return;
    }
    // All that is typed into the other terminal, in one shell, since it keeps SECRET and TOKEN.
    let typed = here(&blocks[begin + 1..begin + 5].join("printf '\\n--\\n'\n"));
    let mut shell = in_folder(Command::new("sh"), &folder, data, admin);
    shell.args(["-e", "-c", &typed]);
    let said = run_well(shell).await;
    let said: Vec<_> = said.split("\n--\n").collect();

    let seen = service.only_request();
    assert_eq!(seen.target(), "/orders?page=2");
    assert_eq!(seen.header("x-auth-client-id"), Some("reports"));
    assert_eq!(seen.header("x-auth-user-id"), Some("42"));
    assert_eq!(seen.header("x-auth-tenant-id"), Some("7"));
    assert!(!seen.has_header("authorization"));

    let issued: Value = serde_json::from_str(said[1]).unwrap();
    let shown: Value = serde_json::from_str(&self::blocks("json")[0]).unwrap();
    assert_eq!(keys(&issued), keys(&shown));
    for same in ["token_type", "expires_in", "scope"] {
        assert_eq!(issued[same], shown[same]);
    }
    assert!(said[2].contains("x-auth-user-id: 42"), "{}", said[2]);

    assert_eq!(serve.end_by("TERM").await, Some(0));
}

/// Where the README's reader is: the folder with the configuration, the program on PATH.
fn in_folder(mut command: Command, folder: &TempDir, data: u16, admin: u16) -> Command {
    let binary = Path::new(env!("CARGO_BIN_EXE_sidegate")).parent().unwrap();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(binary.to_owned()).chain(std::env::split_paths(&path));
    command
        .current_dir(folder.path())
        .env("PATH", std::env::join_paths(paths).unwrap())
        .env_remove("SIDEGATE_CONFIG")
        .env("RUNTIME_DIRECTORY", folder.path())
        .env("SIDEGATE__SERVER__LISTEN", format!("127.0.0.1:{data}"))
        .env(
            "SIDEGATE__SERVER__ADMIN_LISTEN",
            format!("127.0.0.1:{admin}"),
        );
    command
}

fn keys(value: &Value) -> BTreeSet<&String> {
    value.as_object().unwrap().keys().collect()
}

// ---------------------------------------------------------------- tables

#[test]
fn the_table_of_metrics_is_the_one_that_the_program_exports() {
    let said: Vec<_> = table("metric")
        .iter()
        .map(|row| {
            let labels = quoted(&row[2]).join(" ");
            (
                row[0].replace('`', ""),
                row[1].clone(),
                labels,
                row[3].clone(),
            )
        })
        .collect();
    let own: Vec<_> = metrics::TABLE
        .iter()
        .map(|one| {
            (
                one.name.to_owned(),
                one.kind.to_owned(),
                one.labels.join(" "),
                one.help.to_owned(),
            )
        })
        .collect();
    assert_eq!(said, own);
}

#[test]
fn the_table_of_refusals_holds_every_word_with_its_status() {
    let said: BTreeSet<(String, u16)> = table("status")
        .iter()
        .flat_map(|row| {
            let status = row[0].parse().unwrap();
            quoted(&row[1])
                .into_iter()
                .map(move |word| (word.to_owned(), status))
                .collect::<Vec<_>>()
        })
        .collect();
    let own = Word::ALL.map(|word| (word.as_str().to_owned(), word.status().as_u16()));
    assert_eq!(said, BTreeSet::from(own));
}

#[test]
fn the_table_of_commands_and_that_of_exit_codes_are_those_of_the_help() {
    let output = program().arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let commands: BTreeSet<_> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    let rows = table("command");
    let said: BTreeSet<_> = rows
        .iter()
        .map(|row| quoted(&row[0])[0].strip_prefix("sidegate ").unwrap())
        .collect();
    assert_eq!(said, commands);

    let (_, codes) = help.split_once("Exit codes:\n").unwrap();
    let own: BTreeSet<_> = codes
        .lines()
        .filter_map(|line| line.split_whitespace().next()?.parse::<u8>().ok())
        .collect();
    let said: BTreeSet<u8> = table("exit code")
        .iter()
        .map(|row| row[0].parse().unwrap())
        .collect();
    assert_eq!(said, own);
}

#[test]
fn the_table_of_configuration_names_every_table_of_the_example() {
    let mut named: BTreeSet<String> = EXAMPLE
        .lines()
        .map(|line| line.trim_start_matches('#'))
        .filter(|line| line.starts_with('[') && line.ends_with(']'))
        .map(|line| {
            let name = line.trim_matches(['[', ']']);
            let name = match name.split_once('.') {
                Some((table @ ("upstreams" | "rate_limits"), _)) => format!("{table}.NAME"),
                _ => name.to_owned(),
            };
            if line.starts_with("[[") {
                format!("[[{name}]]")
            } else {
                format!("[{name}]")
            }
        })
        .collect();
    for row in table("table") {
        for name in quoted(&row[0]) {
            assert!(named.remove(name), "{name} is not in the example");
        }
    }
    assert!(named.is_empty(), "not in the README: {named:?}");
}

#[tokio::test]
async fn the_table_of_headers_is_what_a_backend_receives() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .client("demo", "sudo")
        .start()
        .await;
    let call = gate.as_client("demo").await;
    for query in [
        "sudo=uid:a&tenantId=7",
        "sudo=loginName:a&tenantCode=ACME",
        "sudo=username:a",
        "sudo=email:a@example.com",
        "sudo=mobile:%2B8613800000000",
    ] {
        call.get(&format!("/?{query}")).await.expect_status(200);
    }
    let received: BTreeSet<_> = backend
        .requests()
        .into_iter()
        .flat_map(|seen| seen.headers)
        .map(|(name, _)| name)
        .filter(|name| name.starts_with("x-"))
        .collect();
    let said: BTreeSet<_> = table("header")
        .iter()
        .flat_map(|row| {
            quoted(&row[0])
                .into_iter()
                .map(str::to_lowercase)
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(said, received);
}

#[tokio::test]
async fn the_spellings_of_forged_headers_that_the_readme_shows_do_not_arrive() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .config("[[routes]]\npath = \"/\"\naccess = \"public\"\n")
        .start()
        .await;
    let section = README
        .split("## What your service receives")
        .nth(1)
        .unwrap();
    let (sentence, _) = section.split_once("Then these are set").unwrap();
    let spellings: Vec<_> = quoted(sentence);
    assert_eq!(spellings, ["X-Auth-", "X_Auth_User_Id", "x.auth.user.id"]);
    for name in &spellings {
        let forged = gate.call().header(name.trim_end_matches('-'), "42");
        let forged = forged.header("X-Auth-User-Id", "42");
        forged.get("/").await.expect_status(200);
    }
    assert_eq!(backend.requests().len(), spellings.len());
    for seen in backend.requests() {
        let mut names = seen.headers.iter().map(|(name, _)| name.to_lowercase());
        let forged = names.find(|name| name.contains("auth") && name.contains("user"));
        assert_eq!(forged, None);
    }
}

#[tokio::test]
async fn the_tables_of_endpoints_are_answered_by_sidegate_and_nothing_else_is() {
    let backend = Backend::answering(|_| {
        Response::builder()
            .status(418)
            .body(Full::new("not yours".into()))
            .unwrap()
    })
    .await;
    let gate = Sidegate::before(&backend)
        .client("demo", "sudo")
        .start()
        .await;
    let mut answered = 0;
    for row in README
        .lines()
        .filter(|line| line.starts_with("| `GET`"))
        .map(|line| line.split(" | ").next().unwrap())
    {
        let words = quoted(row);
        let (path, methods) = words.split_last().unwrap();
        let addr = if path.starts_with("/api/") {
            gate.addr
        } else {
            gate.admin
        };
        for method in methods {
            let answer = Call::to(addr).send(method, path, "").await;
            // Without parameters an endpoint of the data listener says what is missing.
            let expected = if addr == gate.addr { 400 } else { 200 };
            answer.expect_status(expected);
            answered += 1;
        }
    }
    assert_eq!(answered, 9);
    assert!(backend.requests().is_empty());
    let elsewhere = gate.as_client("demo").await.get("/api/oauth2/server").await;
    elsewhere.expect_status(418);
}

// ---------------------------------------------------------------- logs, files, backup

#[tokio::test]
async fn the_log_lines_shown_have_the_members_of_real_ones() {
    let backend = Backend::recording().await;
    let gate = Sidegate::before(&backend)
        .client("reports", "sudo")
        .start()
        .await;
    gate.as_client("reports")
        .await
        .get("/orders?sudo=uid:42&tenantId=7")
        .await
        .expect_status(200);
    for shown in &blocks("json")[1..] {
        let shown: Value = serde_json::from_str(shown).unwrap();
        let kind = shown["kind"].as_str().unwrap();
        let real = gate.logged(kind, |line| line["sudo"] == "uid:42").await;
        assert_eq!(keys(&shown), keys(&real));
        for same in ["event", "path", "route", "status", "sudo", "tenant"] {
            assert_eq!(shown[same], real[same], "{same}");
        }
    }
}

#[test]
fn every_file_that_the_readme_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let links = README
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    let named = README.split('`').filter(|text| {
        ["src/", "tests/", "deploy/", ".ci/"]
            .iter()
            .any(|folder| text.starts_with(folder))
    });
    let mut looked_at = 0;
    for name in links.chain(named) {
        assert!(root.join(name).exists(), "{name}");
        looked_at += 1;
    }
    assert!(looked_at > 10, "{looked_at}");
    let shown_rooms = blocks("")
        .concat()
        .split_whitespace()
        .filter(|word| word.starts_with("src/"))
        .map(|room| {
            let there = root.join(room).is_dir();
            assert!(there, "{room}");
        })
        .count();
    assert!(shown_rooms > 10);
}

#[tokio::test]
async fn a_backup_made_while_it_runs_holds_clients_and_tokens() {
    let backend = Backend::recording().await;
    let config = format!("[upstreams.default]\nurl = \"http://{}\"\n", backend.addr);
    let first = Served::start(&config).await;
    run_well(first.command(&["client", "add", "reports"])).await;
    let token = first.token("reports").await;
    let folder = TempDir::new().unwrap();
    let backup = folder.path().join("sidegate.db");
    let store = rusqlite::Connection::open(first.folder().join("sidegate.db")).unwrap();
    store
        .execute("VACUUM INTO ?1", [backup.to_str().unwrap()])
        .unwrap();
    drop(store);
    drop(first);

    let file = folder.path().join("config.toml");
    std::fs::write(&file, &config).unwrap();
    let mut serve = program();
    serve.args(["serve", "--config"]).arg(&file);
    let second = Served::start_by(serve, folder, file).await;
    let call = second
        .call()
        .header("authorization", &format!("Bearer {token}"));
    call.get("/").await.expect_status(200);
    assert_eq!(
        backend.only_request().header("x-auth-client-id"),
        Some("reports")
    );
}
