//! Two ends of a control socket in one temporary directory.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::*;

struct Sidecar(&'static str);

impl Handler for Sidecar {
    async fn handle(&self, request: Request) -> Reply {
        match request {
            Request::Sync { store } => Reply::Synced {
                uses: store == self.0,
            },
            Request::Drain => Reply::Draining,
            Request::Status => Reply::Failed {
                message: "no".to_owned(),
            },
        }
    }
}

fn here(directory: &Path) -> Places {
    places(
        None,
        None,
        &directory.join("config.toml"),
        Some(directory.as_os_str()),
    )
}

fn sync() -> Request {
    Request::Sync {
        store: "one".to_owned(),
    }
}

#[tokio::test]
async fn every_sidecar_of_the_host_is_told_and_says_whether_it_uses_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let places = here(directory.path());
    let first = Listener::bind(&places).unwrap();
    let second = Listener::bind(&places).unwrap();
    assert_eq!(second.path(), directory.path().join("control-2.sock"));
    tokio::spawn(first.serve(Sidecar("one")));
    tokio::spawn(second.serve(Sidecar("two")));
    let told = tell_all(&places, sync()).await;
    let uses: Vec<_> = told.replies.into_iter().map(|(_, reply)| reply).collect();
    assert!(uses.contains(&Reply::Synced { uses: true }));
    assert!(uses.contains(&Reply::Synced { uses: false }));
    assert_eq!(uses.len(), 2);
    let told = tell_all(&places, Request::Status).await;
    assert_eq!((told.heard(), told.any_untold()), (0, true));
}

#[test]
fn a_socket_is_for_its_user_only_and_goes_away_with_the_listener() {
    let directory = tempfile::tempdir().unwrap();
    let listener = Listener::bind(&here(directory.path())).unwrap();
    let path = listener.path().to_owned();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    drop(listener);
    assert!(!path.exists());
}

#[test]
fn a_stale_socket_is_replaced_and_another_file_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    drop(StdListener::bind(&path).unwrap());
    let listener = Listener::bind(&here(directory.path())).unwrap();
    assert_eq!(listener.path(), path);
    drop(listener);
    fs::write(&path, "mine").unwrap();
    let refused = Listener::bind(&here(directory.path())).unwrap_err();
    assert!(matches!(refused, BindError::NotASocket { .. }));
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
}

#[test]
fn a_listener_leaves_a_name_alone_that_is_no_longer_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let listener = Listener::bind(&here(directory.path())).unwrap();
    let path = listener.path().to_owned();
    fs::remove_file(&path).unwrap();
    let _other = StdListener::bind(&path).unwrap();
    drop(listener);
    assert!(path.exists());
}

#[tokio::test]
async fn a_peer_that_hangs_is_given_up_and_one_that_is_gone_is_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let hanging = directory.path().join("control.sock");
    let _hanging = StdListener::bind(&hanging).unwrap();
    drop(StdListener::bind(directory.path().join("control-2.sock")).unwrap());
    let limit = Duration::from_millis(50);
    let told = super::tell::tell_within(limit, &here(directory.path()), sync()).await;
    assert_eq!(told.unreachable, [hanging]);
    assert!(told.replies.is_empty());
}

#[tokio::test]
async fn garbage_is_answered_with_a_failure_and_a_garbage_answer_is_no_answer() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let directory = tempfile::tempdir().unwrap();
    let places = here(directory.path());
    let listener = Listener::bind(&places).unwrap();
    let path = listener.path().to_owned();
    tokio::spawn(listener.serve(Sidecar("one")));
    for bad in ["garbage\n", "{}\n", "{\"v\":9,\"request\":\"drain\"}\n"] {
        let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
        stream.write_all(bad.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("\"failed\""), "{answer}");
    }
    let bad = tokio::net::UnixListener::bind(directory.path().join("control-2.sock")).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = bad.accept().await.unwrap();
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n").await;
    });
    let told = tell_all(&places, sync()).await;
    assert_eq!((told.heard(), told.unreachable.len()), (1, 1));
}

#[tokio::test]
async fn a_change_that_nobody_can_be_told_of_waits_until_all_have_polled() {
    let directory = tempfile::tempdir().unwrap();
    let committed = Instant::now();
    store_changed(&here(directory.path()), "one", committed).await;
    assert!(committed.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn a_change_that_all_have_applied_does_not_wait() {
    let directory = tempfile::tempdir().unwrap();
    let places = here(directory.path());
    tokio::spawn(Listener::bind(&places).unwrap().serve(Sidecar("one")));
    // In the future, so that a wait would be noticed without measuring one.
    let committed = Instant::now() + Duration::from_secs(600);
    let done = tokio::time::timeout(
        Duration::from_secs(5),
        store_changed(&places, "one", committed),
    );
    done.await.unwrap();
}

#[test]
fn sockets_are_made_and_looked_for_where_the_contract_says() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for name in ["run", "db", "etc", "own"] {
        fs::create_dir(at(name)).unwrap();
    }
    let (db, config, own) = (at("db/s.db"), at("etc/c.toml"), at("own/my.sock"));
    let runtime = at("run");
    let run: Option<&OsStr> = Some(runtime.as_os_str());
    let made = |places: Places| places.names().next().unwrap();
    assert_eq!(made(places(Some(&own), Some(&db), &config, run)), own);
    assert_eq!(
        made(places(None, Some(&db), &config, run)),
        at("run/control.sock")
    );
    assert_eq!(
        made(places(None, Some(&db), &config, None)),
        at("db/control.sock")
    );
    assert_eq!(
        made(places(None, None, &config, None)),
        at("etc/control.sock")
    );
    let names = [
        "run/control.sock",
        "db/control-2.sock",
        "etc/control-x.sock",
        "own/my.sock",
        "own/my-3.sock",
    ];
    let held: Vec<_> = names
        .iter()
        .chain(&["own/my-other.sock", "db/other.sock"])
        .map(|name| StdListener::bind(at(name)).unwrap())
        .collect();
    let mut expected: Vec<PathBuf> = names.iter().map(|name| at(name)).collect();
    expected.sort();
    assert_eq!(
        places(Some(&own), Some(&db), &config, run).sockets(),
        expected
    );
    drop(held);
}

#[test]
fn a_path_too_long_for_a_socket_is_refused_with_the_mend() {
    let directory = tempfile::tempdir().unwrap();
    let long = directory.path().join("x".repeat(120));
    let places = places(Some(&long), None, Path::new("c.toml"), None);
    let refused = Listener::bind(&places).unwrap_err();
    assert!(refused.to_string().contains("[admin] socket"), "{refused}");
}
