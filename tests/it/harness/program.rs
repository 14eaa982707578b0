//! The program itself, as a process of its own, and its commands.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::TempDir;

use super::sidegate::{Answer, Builder, Call, SECRET};
use super::{eventually, soon};

/// The program, without what the environment of the tests may hold for one.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidegate"));
    command.env_remove("RUNTIME_DIRECTORY");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SIDEGATE") {
            command.env_remove(name);
        }
    }
    command
}

/// How a command ended.
#[derive(Debug)]
pub struct Ran {
    /// `None`: a signal ended it.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// Fails the test, showing everything, if it ended with another code.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// Standard output without its line feed.
    pub fn word(&self) -> &str {
        self.out.trim_end()
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("no JSON: {self:#?}"))
    }
}

/// Runs a command to its end with the configuration in `folder`.
pub async fn run(folder: &Path, arguments: &[&str]) -> Ran {
    run_with(folder, arguments, &[], "").await
}

/// The same with variables of the environment and with standard input.
pub async fn run_with(
    folder: &Path,
    arguments: &[&str],
    environment: &[(&str, &str)],
    input: &str,
) -> Ran {
    let mut command = program();
    command
        .args(arguments)
        .arg("--config")
        .arg(folder.join("config.toml"))
        .envs(environment.iter().copied());
    ran(command, input).await
}

/// Runs any command to its end.
pub async fn ran(mut command: Command, input: &str) -> Ran {
    let input = input.to_owned();
    let shown = format!("{command:?}");
    // The sidecar of a test may live on the runtime that waits here.
    let running = tokio::task::spawn_blocking(move || {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that reads nothing has closed it perhaps.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    });
    let output = soon(&shown, running).await.unwrap();
    Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// `sidegate serve` in a process of its own. Killed when dropped.
pub struct Program {
    child: Child,
    log: Arc<Mutex<String>>,
    pub addr: SocketAddr,
    pub admin: SocketAddr,
    folder: Arc<TempDir>,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Builder {
    /// Starts it as a process, and waits until it serves.
    pub async fn spawn(self) -> Program {
        let folder = self.write();
        Program::serve(folder, program()).await
    }

    /// Writes the configuration, for commands that need no sidecar; gives its folder.
    pub fn write(&self) -> Arc<TempDir> {
        std::fs::write(self.folder.path().join("config.toml"), self.toml()).unwrap();
        Arc::clone(&self.folder)
    }
}

impl Program {
    /// Runs `command` with `serve` and the configuration in `folder`; waits until it serves.
    pub async fn serve(folder: Arc<TempDir>, mut command: Command) -> Self {
        let mut child = command
            .arg("serve")
            .arg("--config")
            .arg(folder.path().join("config.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let lines = BufReader::new(child.stderr.take().unwrap());
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.push_str(&line);
                kept.push('\n');
            }
        });
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut program = Self {
            child,
            log,
            addr: nowhere,
            admin: nowhere,
            folder,
        };
        let mut serves = None;
        eventually("the program serves", async || {
            if let Ok(Some(status)) = program.child.try_wait() {
                panic!("it ended with {status}: {}", program.log_text());
            }
            serves = program
                .log("log")
                .into_iter()
                .find(|line| line["message"] == "sidegate serves");
            serves.is_some()
        })
        .await;
        let fields = serves.unwrap()["fields"].clone();
        let addr = |value: &serde_json::Value| {
            let text = value.as_str().unwrap().trim_matches(['[', ']']).to_owned();
            text.parse::<SocketAddr>().unwrap()
        };
        program.addr = addr(&fields["listen"]);
        program.admin = addr(&fields["admin"]);
        program
    }

    /// Sends a signal by its name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("sh")
            .args(["-c", "kill -s \"$1\" \"$2\"", "sh", name, &pid])
            .status();
        assert!(sent.unwrap().success(), "kill -s {name} {pid}");
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end; its exit code, `None` if a signal ended it.
    pub async fn ended(&mut self) -> Option<i32> {
        let mut status = None;
        eventually("the program ends", async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap().code()
    }

    /// Ends it as `kill -9` does.
    pub async fn kill(mut self) -> Arc<TempDir> {
        self.signal("KILL");
        assert_eq!(self.ended().await, None);
        Arc::clone(&self.folder)
    }

    /// The folder with its configuration and its store.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Runs a command with its configuration.
    pub async fn run(&self, arguments: &[&str]) -> Ran {
        run(self.folder.path(), arguments).await
    }

    /// Its standard error so far.
    pub fn log_text(&self) -> String {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.clone()
    }

    /// Log lines of this kind so far.
    pub fn log(&self, kind: &str) -> Vec<serde_json::Value> {
        self.log_text()
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .filter(|line| line["kind"] == kind)
            .collect()
    }

    /// A caller without a token.
    pub fn call(&self) -> Call {
        Call::to(self.addr)
    }

    /// GET without a token.
    pub async fn get(&self, target: &str) -> Answer {
        self.call().get(target).await
    }

    /// GET on the admin listener.
    pub async fn admin_get(&self, target: &str) -> Answer {
        Call::to(self.admin).get(target).await
    }

    /// A token of this client, issued by the endpoint.
    pub async fn token(&self, client: &str) -> String {
        let target = format!(
            "/api/oauth2/server/tokens?grant_type=client_credentials&client_id={client}&client_secret={SECRET}"
        );
        let answer = self.get(&target).await;
        answer.expect_status(200);
        answer.json()["access_token"].as_str().unwrap().to_owned()
    }
}
