//! A desk to run commands at, and what came of them.

use std::fs;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A sidecar beside others.
pub(crate) const FREE_PORTS: &str =
    "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\nworkers = 1\n";

/// A directory with a configuration in it, where commands are run.
pub(crate) struct Desk {
    pub(crate) dir: TempDir,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self::with("")
    }

    /// `more` goes in front of the configuration.
    pub(crate) fn with(more: &str) -> Self {
        let desk = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let text = format!(
            r#"{more}
[upstreams.default]
url = "http://127.0.0.1:1"
[store]
url = "sqlite:sidegate.db"
[[clients]]
id = "filed"
secret = "correct-horse-battery-staple"
scopes = ["sudo", "read"]
"#
        );
        fs::write(desk.config(), text).unwrap();
        desk
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("config.toml")
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sidegate"));
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .env_remove("SIDEGATE_CONFIG")
            .env("RUNTIME_DIRECTORY", self.dir.path())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        Ended::of(&self.command(arguments).output().unwrap())
    }

    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &str) -> Ended {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that does not read its input must not fail the test.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        Ended::of(&child.wait_with_output().unwrap())
    }

    /// With a standard output that takes nothing.
    pub(crate) fn run_unwritable(&self, arguments: &[&str]) -> Ended {
        let full = File::options().write(true).open("/dev/full").unwrap();
        Ended::of(&self.command(arguments).stdout(full).output().unwrap())
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        self.run(arguments).succeeded().json()
    }

    pub(crate) fn issue(&self, arguments: &[&str]) -> String {
        let all = [&["token", "issue", "--client", "filed"], arguments].concat();
        self.run(&all).succeeded().only_line()
    }
}

/// A command that ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    pub(crate) fn of(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout.clone()).unwrap(),
            err: String::from_utf8(output.stderr.clone()).unwrap(),
        }
    }

    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        self.ended_with(0)
    }

    #[track_caller]
    pub(crate) fn ended_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(!self.err.contains("panicked"), "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn saying(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.err.contains(word), "{word} in {self:?}");
        }
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.out.lines().count(), 1, "{self:?}");
        serde_json::from_str(&self.out).unwrap()
    }

    #[track_caller]
    pub(crate) fn only_line(&self) -> String {
        let line = self.out.strip_suffix('\n').unwrap();
        assert!(!line.contains('\n') && !line.is_empty(), "{self:?}");
        line.to_owned()
    }

    /// The audit lines among what was said.
    pub(crate) fn audit(&self) -> Vec<Value> {
        let lines = self.err.lines().filter(|line| line.starts_with('{'));
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// A process that is ended whatever becomes of the test.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn first_line(&mut self) -> String {
        let mut line = String::new();
        let out = self.0.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub(crate) fn signal(&self, name: &str) {
        // The shell's own: a small system has no program of that name.
        let status = Command::new("sh")
            .args(["-c", &format!("kill -s {name} {}", self.0.id())])
            .status();
        assert!(status.unwrap().success());
    }

    pub(crate) fn code(&mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Desk {
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        Running(command.spawn().unwrap())
    }
}

/// One request on a connection of its own; status line and body.
pub(crate) fn ask(addr: &str, head: &str) -> (String, String) {
    let mut stream = std::net::TcpStream::connect(addr).unwrap();
    write!(
        stream,
        "{head}\r\nHost: {addr}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}
