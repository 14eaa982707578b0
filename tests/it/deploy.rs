//! What `deploy/` holds is what the program takes: commands, configuration, ports, signals. That a cluster and
//! systemd take it too is looked at elsewhere; here nothing of either runs.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::harness::outside::{Served, run, run_well};
use crate::harness::{Backend, program};

const UNIT: &str = include_str!("../../deploy/sidegate.service");
const MANIFEST: &str = include_str!("../../deploy/kubernetes.yaml");
const INSTALLED: &str = "/usr/local/bin/sidegate";

/// The values of this key of the unit.
fn unit(key: &str) -> Vec<&'static str> {
    UNIT.lines()
        .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        .collect()
}

/// The configuration in the manifest's ConfigMap.
fn manifest_config() -> String {
    let (_, rest) = MANIFEST.split_once("  config.toml: |\n").unwrap();
    rest.lines()
        .take_while(|line| line.is_empty() || line.starts_with("    "))
        .map(|line| format!("{}\n", line.get(4..).unwrap_or_default()))
        .collect()
}

/// The words of every one-line list under this key: `args: [serve, --config, FILE]`.
fn manifest_lists(key: &str) -> Vec<Vec<&'static str>> {
    MANIFEST
        .lines()
        .filter_map(|line| {
            line.trim()
                .strip_prefix(key)?
                .strip_prefix(": [")?
                .strip_suffix(']')
        })
        .map(|list| list.split(", ").collect())
        .collect()
}

/// The first value under this key, whatever its depth.
fn manifest_value(key: &str) -> &'static str {
    MANIFEST
        .lines()
        .find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(": "))
        .unwrap()
}

/// The manifest's configuration with its one secret in a file of this folder.
fn manifest_files(folder: &TempDir) -> std::path::PathBuf {
    let config = manifest_config();
    let secret = folder.path().join("demo-app");
    std::fs::write(&secret, manifest_value("demo-app")).unwrap();
    let mounted = "/etc/sidegate-secrets/demo-app";
    assert!(config.contains(mounted));
    let store = "/var/lib/sidegate/";
    assert!(config.contains(store));
    let config = config
        .replace(mounted, &secret.display().to_string())
        .replace(store, &format!("{}/", folder.path().display()));
    let file = folder.path().join("config.toml");
    std::fs::write(&file, config).unwrap();
    file
}

#[tokio::test]
async fn the_units_command_serves_and_the_units_signal_ends_it_well() {
    let folder = TempDir::new().unwrap();
    let backend = Backend::recording().await;
    let config = folder.path().join("config.toml");
    let text = format!("[upstreams.default]\nurl = \"http://{}\"\n", backend.addr);
    std::fs::write(&config, text).unwrap();
    let starts = unit("ExecStart");
    let words: Vec<_> = starts[0].split(' ').collect();
    assert_eq!(words[0], INSTALLED);
    assert!(unit("ExecReload").is_empty(), "SIGHUP changes nothing yet");
    let mut command = program();
    for word in &words[1..] {
        command.arg(match *word {
            "/etc/sidegate/config.toml" => config.as_os_str(),
            other => other.as_ref(),
        });
    }
    command.env("RUNTIME_DIRECTORY", folder.path());
    let mut served = Served::start_by(command, folder, config).await;
    served
        .call()
        .get("/")
        .await
        .expect_refusal(401, "missing_token");
    let signal = unit("KillSignal")[0].strip_prefix("SIG").unwrap();
    assert_eq!(served.process.end_by(signal).await, Some(0));
}

#[tokio::test]
async fn the_unit_does_not_restart_what_a_restart_cannot_mend() {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("config.toml");
    std::fs::write(&config, "[server]\nlissten = \"127.0.0.1:0\"\n").unwrap();
    let mut wrong_file = program();
    wrong_file.args(["serve", "--config"]).arg(&config);
    let mut wrong_usage = program();
    wrong_usage.args(["serve", "--confg"]).arg(&config);
    let unmended = unit("RestartPreventExitStatus")[0];
    for command in [wrong_file, wrong_usage] {
        let code = run(command).await.status.code().unwrap().to_string();
        assert!(unmended.split(' ').any(|one| one == code), "{code}");
    }
}

#[test]
fn the_unit_waits_longer_than_the_default_drain_timeout() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("config.toml");
    std::fs::write(&file, "[upstreams.default]\nurl = \"http://127.0.0.1:1\"\n").unwrap();
    let config = load(&file);
    let stop: u64 = unit("TimeoutStopSec")[0]
        .strip_suffix('s')
        .unwrap()
        .parse()
        .unwrap();
    assert!(Duration::from_secs(stop) > config.server.drain_timeout);
}

fn load(file: &Path) -> sidegate::config::Config {
    sidegate::config::load(file, std::iter::empty::<(String, String)>())
        .unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

#[test]
fn the_manifests_configuration_has_no_mistake_and_fits_its_ports_and_times() {
    let folder = TempDir::new().unwrap();
    let config = load(&manifest_files(&folder));
    let port = config.server.listen[0].port();
    let admin = config.server.admin_listen.port();
    // Clients and the kubelet come from outside of the pod.
    assert!(config.server.listen[0].ip().is_unspecified());
    assert!(config.server.admin_listen.ip().is_unspecified());
    assert!(MANIFEST.contains(&format!("{{name: http, containerPort: {port}}}")));
    assert!(MANIFEST.contains(&format!("{{name: admin, containerPort: {admin}}}")));
    assert!(MANIFEST.contains(&format!("targetPort: {port}}}")));
    assert!(MANIFEST.contains(&format!("{{port: {port}, protocol: TCP}}")));
    for (probe, path) in [
        ("startup", "/readyz"),
        ("readiness", "/readyz"),
        ("liveness", "/livez"),
    ] {
        let (_, rest) = MANIFEST.split_once(&format!("{probe}Probe:\n")).unwrap();
        let line = rest.lines().next().unwrap().trim();
        assert_eq!(line, format!("httpGet: {{path: {path}, port: {admin}}}"));
    }
    // The app waits, then requests in flight finish, all within the grace period.
    let grace: u64 = manifest_value("terminationGracePeriodSeconds")
        .parse()
        .unwrap();
    let (_, wait) = MANIFEST.split_once("sleep: {seconds: ").unwrap();
    let wait: u64 = wait.split('}').next().unwrap().parse().unwrap();
    assert!(Duration::from_secs(grace - wait) > config.server.drain_timeout);
    // One store, one pod.
    assert_eq!(manifest_value("replicas"), "1");
}

#[test]
fn the_manifest_mounts_every_folder_that_its_configuration_and_commands_name() {
    let mounts: BTreeMap<_, _> = MANIFEST
        .lines()
        .filter_map(|line| {
            line.trim()
                .strip_prefix("- {name: ")?
                .split_once(", mountPath: ")
        })
        .map(|(name, path)| (path.split([',', '}']).next().unwrap(), name))
        .collect();
    for folder in [
        "/etc/sidegate",
        "/etc/sidegate-secrets",
        "/var/lib/sidegate",
        "/run/sidegate",
    ] {
        let volume = mounts
            .get(folder)
            .unwrap_or_else(|| panic!("{folder} is not mounted"));
        assert!(
            MANIFEST.contains(&format!("        - name: {volume}\n")),
            "{volume}"
        );
    }
    assert!(MANIFEST.contains("{name: RUNTIME_DIRECTORY, value: /run/sidegate}"));
}

#[tokio::test]
async fn the_manifests_commands_serve_turn_unready_and_echo() {
    let folder = TempDir::new().unwrap();
    let config = manifest_files(&folder);
    let runtime = folder.path().to_owned();
    let args = manifest_lists("args");
    let [serve, echo] = [&args[0], &args[1]];
    assert_eq!(manifest_lists("command").len(), 3);
    for command in manifest_lists("command") {
        assert_eq!(command[0], INSTALLED);
    }
    let here = |words: &[&str]| {
        let mut command = program();
        for word in words {
            command.arg(match *word {
                "/etc/sidegate/config.toml" => config.as_os_str(),
                other => other.as_ref(),
            });
        }
        command.env("RUNTIME_DIRECTORY", &runtime);
        command
    };
    // The stand-in for the app, on a port of its own.
    let mut help = here(&echo[..1]);
    help.arg("--help");
    assert!(run_well(help).await.contains(echo[1]));
    let upstream = load(&config).upstreams[0].origin.authority();
    assert_eq!(upstream.to_str().unwrap(), echo[2]);

    let serve = here(serve);
    let drain = manifest_lists("command")
        .into_iter()
        .find(|command| command.len() > 1)
        .unwrap();
    let drain = here(&drain[1..]);
    let mut served = Served::start_by(serve, folder, config.clone()).await;
    served.admin().get("/readyz").await.expect_status(200);
    run_well(drain).await;
    served.admin().get("/readyz").await.expect_status(503);
    served.admin().get("/livez").await.expect_status(200);
    let answer = served.call().get("/").await;
    answer.expect_refusal(401, "missing_token");
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(served.process.end_by("TERM").await, Some(0));
}
