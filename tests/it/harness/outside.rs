//! Programs in processes of their own: `sidegate` as it is shipped, and software that others wrote.

use std::fs::{self, File};
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

use super::{Call, eventually, program};

/// Runs a command to its end, beside everything else that the test runs.
pub async fn run(mut command: Command) -> Output {
    let told = format!("{command:?}");
    tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap_or_else(|error| panic!("{told}: {error}"))
}

/// The same for one that must succeed; gives what it wrote to standard output.
pub async fn run_well(command: Command) -> String {
    let told = format!("{command:?}");
    let output = run(command).await;
    assert!(
        output.status.success(),
        "{told}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A port that was free a moment ago, for programs that cannot choose one themselves.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Whether every one of these programs is there. Where one is not, the test has nothing to test: that is
/// said loudly, and with `CI=true` it is a failure.
pub fn found_all(programs: &[&str], mend: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing: Vec<_> = programs
        .iter()
        .filter(|name| !std::env::split_paths(&path).any(|folder| folder.join(name).is_file()))
        .copied()
        .collect();
    missing.is_empty() || skipped(&format!("{} is not on PATH", missing.join(", ")), mend)
}

/// Says that a test is skipped; gives false, for what it was to decide.
pub fn skipped(why: &str, mend: &str) -> bool {
    let line = format!("SKIPPED: {why}; {mend}");
    assert!(
        std::env::var_os("CI").is_none_or(|value| value != "true"),
        "{line} (with CI=true nothing may be skipped)"
    );
    // Written past the capture of the test runner, which keeps what passing tests print, and in one piece.
    let _ = std::io::stderr().write_all(format!("\n{line}\n\n").as_bytes());
    false
}

/// A process that runs beside the test. Ends when dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// Starts it with its output in the file `log`.
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let out = File::create(log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self {
            child,
            log: log.to_owned(),
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All that it wrote so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }

    /// Fails the test, showing what it wrote, if it has ended.
    pub fn expect_alive(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("ended with {status}:\n{}", self.output());
        }
    }

    /// Sends the signal of this name and waits for the end; gives the exit code, none after a signal.
    pub async fn end_by(&mut self, signal: &str) -> Option<i32> {
        // The shell's own: a small system has no program of that name.
        let mut kill = Command::new("sh");
        kill.args(["-c", &format!("kill -s {signal} {}", self.id())]);
        run_well(kill).await;
        let mut code = None;
        eventually("the process ends", async || {
            let ended = self.child.try_wait().unwrap();
            code = ended.and_then(|status| status.code());
            ended.is_some()
        })
        .await;
        code
    }

    /// A size in KiB as `/proc/PID/status` tells it, such as `VmHWM`.
    pub fn memory(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let size = line.unwrap().trim().strip_suffix(" kB").unwrap();
        size.parse().unwrap()
    }
}

/// `sidegate serve` in a process of its own, on ports that the system chose.
pub struct Served {
    pub process: Process,
    pub addr: SocketAddr,
    pub admin: SocketAddr,
    config: PathBuf,
    folder: TempDir,
}

impl Served {
    /// Serves this configuration, whose addresses are overridden by the environment.
    pub async fn start(config: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("config.toml");
        fs::write(&file, config).unwrap();
        let mut command = program();
        command.args(["serve", "--config"]).arg(&file);
        Self::start_by(command, folder, file).await
    }

    /// The same by a command of the caller's, for the configuration at `config` in `folder`.
    pub async fn start_by(mut command: Command, folder: TempDir, config: PathBuf) -> Self {
        command
            .env("SIDEGATE__SERVER__LISTEN", "127.0.0.1:0")
            .env("SIDEGATE__SERVER__ADMIN_LISTEN", "127.0.0.1:0");
        let mut process = Process::start(&mut command, &folder.path().join("log"));
        let mut addrs = None;
        eventually("sidegate serves", async || {
            process.expect_alive();
            addrs = process.output().lines().find_map(serves);
            addrs.is_some()
        })
        .await;
        let (addr, admin) = addrs.unwrap();
        Self {
            process,
            addr,
            admin,
            config,
            folder,
        }
    }

    /// Another command for the same configuration.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program();
        command.args(arguments).arg("--config").arg(&self.config);
        command
    }

    /// A token of this client, by command.
    pub async fn token(&self, client: &str) -> String {
        let command = self.command(&["token", "issue", "--client", client]);
        run_well(command).await.trim_end().to_owned()
    }

    /// The folder with its configuration, its store and its log.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A caller of its admin listener.
    pub fn admin(&self) -> Call {
        Call::to(self.admin)
    }

    /// A caller without a token.
    pub fn call(&self) -> Call {
        Call::to(self.addr)
    }
}

/// The addresses, if this log line tells them: `"fields":{"listen":"[127.0.0.1:8080]",…}`.
fn serves(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    if line["message"] != "sidegate serves" {
        return None;
    }
    let listen = line["fields"]["listen"].as_str()?.trim_matches(['[', ']']);
    let admin = line["fields"]["admin"].as_str()?;
    Some((listen.parse().ok()?, admin.parse().ok()?))
}
