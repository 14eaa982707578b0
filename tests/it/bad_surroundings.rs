//! What is wrong around the program (issue 2, "Bad input"): it says which file or address and what to do,
//! ends with the right code, and where it runs already it lives on.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;

use crate::harness::{Backend, Program, Ran, Sidegate, eventually, program, run, run_with};

/// `serve`, expected to end by itself, with this word in what it says.
async fn expect_end(folder: &Path, code: i32, words: &[&str]) -> Ran {
    let ran = run(folder, &["serve"]).await.expect_code(code);
    for word in words {
        assert!(ran.err.contains(word), "{word:?} in {ran:#?}");
    }
    assert_eq!(ran.out, "");
    assert!(!ran.err.contains("panicked"), "{ran:#?}");
    ran
}

/// Past the capture of a test's output, which would keep it from everybody when the test passes.
fn skipped(test: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {test} ({why})");
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    let probe = tempfile::tempdir().unwrap();
    std::fs::metadata(probe.path()).unwrap().uid() == 0
}

#[tokio::test]
async fn a_port_in_use_by_another_sidegate_of_the_same_user_is_named() {
    let backend = Backend::recording().await;
    let first = Sidegate::before(&backend).spawn().await;
    let second = Sidegate::before(&backend).write();
    let (addr, admin) = (first.addr.to_string(), first.admin.to_string());
    for (key, variable, addr) in [
        ("server.listen", "SIDEGATE__SERVER__LISTEN", &addr),
        (
            "server.admin_listen",
            "SIDEGATE__SERVER__ADMIN_LISTEN",
            &admin,
        ),
    ] {
        let ran = run_with(second.path(), &["serve"], &[(variable, addr)], "")
            .await
            .expect_code(69);
        assert!(ran.err.contains(key) && ran.err.contains(addr), "{ran:#?}");
        assert!(ran.err.contains("in use"), "{ran:#?}");
    }
    first.admin_get("/readyz").await.expect_status(200);
}

#[tokio::test]
async fn a_port_in_use_by_something_else_is_named() {
    let backend = Backend::recording().await;
    let folder = Sidegate::before(&backend).write();
    let addr = backend.addr.to_string();
    for variable in ["SIDEGATE__SERVER__LISTEN", "SIDEGATE__SERVER__ADMIN_LISTEN"] {
        let ran = run_with(folder.path(), &["serve"], &[(variable, &addr)], "")
            .await
            .expect_code(69);
        assert!(ran.err.contains(&addr), "{ran:#?}");
    }
    // No store was made on the way.
    assert!(!folder.path().join("sidegate.db").exists());
    let elsewhere = [("SIDEGATE__SERVER__LISTEN", "192.0.2.1:8080")];
    let ran = run_with(folder.path(), &["serve"], &elsewhere, "")
        .await
        .expect_code(69);
    assert!(ran.err.contains("192.0.2.1"), "{ran:#?}");
}

#[tokio::test]
async fn a_configuration_that_cannot_be_read_is_78_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    let shown = file.display().to_string();
    for command in [
        &["serve"][..],
        &["check"],
        &["client", "list"],
        &["drain"],
        &["explain", "GET", "/"],
    ] {
        let missing = run(folder.path(), command).await;
        assert_eq!(missing.code, Some(78), "{command:?}: {missing:#?}");
        assert!(missing.err.contains(&shown), "{command:?}: {missing:#?}");
    }
    std::fs::create_dir(&file).unwrap();
    expect_end(folder.path(), 78, &[&shown, "directory"]).await;
    std::fs::remove_dir(&file).unwrap();
    std::fs::write(&file, b"[server]\nlisten = \"\xff\xfe\"\n").unwrap();
    expect_end(folder.path(), 78, &[&shown, "UTF-8"]).await;
    std::fs::write(&file, "[server]\nlisten = \n").unwrap();
    expect_end(folder.path(), 78, &[&format!("{shown}:2:")]).await;
    std::fs::write(
        &file,
        "[server]\nlissten = \"127.0.0.1:1\"\nworkers = \"x\"\n",
    )
    .unwrap();
    expect_end(
        folder.path(),
        78,
        &[
            &format!("{shown}:2:"),
            "listen",
            &format!("{shown}:3:"),
            "server.workers",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_secret_in_a_broken_configuration_is_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[[clients]]\nid = \"a\"\nsecret = \"hunter2hunter2\" oops\n[[clients]]\nid = 7\nsecret = [\"hunter2hunter2\"]\n";
    std::fs::write(folder.path().join("config.toml"), text).unwrap();
    for command in [&["serve"][..], &["check"]] {
        let ran = run(folder.path(), command).await.expect_code(78);
        assert!(
            !ran.err.contains("hunter2") && !ran.out.contains("hunter2"),
            "{ran:#?}"
        );
    }
}

#[tokio::test]
async fn a_store_that_is_no_store_is_69_and_named_and_left_alone() {
    let backend = Backend::recording().await;
    let folder = Sidegate::before(&backend).write();
    let file = folder.path().join("sidegate.db");
    let shown = file.display().to_string();

    let garbage = b"this is a text and no database, however long one reads on in it........";
    std::fs::write(&file, garbage).unwrap();
    expect_end(folder.path(), 69, &[&shown, "[store] url"]).await;
    assert_eq!(std::fs::read(&file).unwrap(), garbage);
    for command in [
        &["client", "list"][..],
        &["client", "add", "a"],
        &["token", "list"],
        &["token", "revoke", "1"],
    ] {
        let ran = run(folder.path(), command).await.expect_code(69);
        assert!(ran.err.contains(&shown), "{ran:#?}");
    }
    std::fs::remove_file(&file).unwrap();

    std::fs::create_dir(&file).unwrap();
    expect_end(folder.path(), 69, &[&shown, "directory"]).await;
    std::fs::remove_dir(&file).unwrap();

    let nowhere = [("SIDEGATE__STORE__URL", "sqlite:not/there/sidegate.db")];
    let ran = run_with(folder.path(), &["serve"], &nowhere, "")
        .await
        .expect_code(69);
    assert!(
        ran.err.contains("not/there") && ran.err.contains("make the directory"),
        "{ran:#?}"
    );
}

#[tokio::test]
async fn a_corrupt_store_is_69_and_says_how_to_mend_it() {
    let backend = Backend::recording().await;
    let mut sidecar = Sidegate::before(&backend)
        .client("demo", "sudo")
        .spawn()
        .await;
    sidecar.token("demo").await;
    sidecar.signal("TERM");
    assert_eq!(sidecar.ended().await, Some(0));
    let folder = sidecar.folder();
    let file = folder.join("sidegate.db");
    let mut bytes = std::fs::read(&file).unwrap();
    for byte in &mut bytes[4096..] {
        *byte = 0x5a;
    }
    std::fs::write(&file, &bytes).unwrap();
    let ran = run(&folder, &["serve"]).await.expect_code(69);
    let shown = file.display().to_string();
    assert!(
        ran.err.contains(&shown) && ran.err.contains("damaged"),
        "{ran:#?}"
    );
    assert!(ran.err.contains("backup"), "{ran:#?}");
    assert_eq!(std::fs::read(&file).unwrap(), bytes, "left as it was");
}

#[tokio::test]
async fn a_read_only_store_is_69_and_named() {
    if is_root() {
        skipped(
            "a_read_only_store_is_69_and_named",
            "root may write everything",
        );
        return;
    }
    let backend = Backend::recording().await;
    let folder = Sidegate::before(&backend).write();
    run(folder.path(), &["client", "add", "a"])
        .await
        .expect_code(0);
    let file = folder.path().join("sidegate.db");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o400)).unwrap();
    expect_end(folder.path(), 69, &[&file.display().to_string(), "writ"]).await;
}

/// A small disk of its own. Needs a user that may mount; `None`, loudly, where that is not so.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount(test: &str, options: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(folder.path())
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        skipped(test, "this user may not mount a small disk");
        None
    }

    fn options(&self, options: &str) {
        let done = Command::new("mount")
            .args(["-o", options])
            .arg(self.0.path())
            .status();
        assert!(done.unwrap().success());
    }

    fn fill(&self) {
        let block = vec![0; 64 << 10];
        let mut file = std::fs::File::create(self.0.path().join("filler")).unwrap();
        while file.write_all(&block).is_ok() {}
        while file.write_all(&[0; 512]).is_ok() {}
    }

    fn make_room(&self) {
        std::fs::remove_file(self.0.path().join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn on_disk(backend: &Backend, disk: &SmallDisk) -> Arc<TempDir> {
    let url = format!(
        "[store]\nurl = \"sqlite:{}\"\n",
        disk.0.path().join("sidegate.db").display()
    );
    Sidegate::before(backend)
        .client("demo", "sudo")
        .config(&url)
        .write()
}

#[tokio::test]
async fn a_full_disk_at_the_start_is_69_and_named() {
    let Some(disk) = SmallDisk::mount("a_full_disk_at_the_start", "size=1m") else {
        return;
    };
    let backend = Backend::recording().await;
    let folder = on_disk(&backend, &disk);
    disk.fill();
    let shown = disk.0.path().display().to_string();
    expect_end(folder.path(), 69, &[&shown, "full"]).await;
    let ran = run(folder.path(), &["client", "add", "a"])
        .await
        .expect_code(69);
    assert!(ran.err.contains("full"), "{ran:#?}");
    assert_eq!(ran.out, "", "no secret of a client that was not kept");
}

#[tokio::test]
async fn the_sidecar_lives_through_a_full_disk() {
    let Some(disk) = SmallDisk::mount("the_sidecar_lives_through_a_full_disk", "size=2m") else {
        return;
    };
    let backend = Backend::recording().await;
    let mut sidecar = Program::serve(on_disk(&backend, &disk), program()).await;
    let token = sidecar.token("demo").await;
    let revoked = sidecar.token("demo").await;
    sidecar
        .call()
        .bearer(&token)
        .get("/")
        .await
        .expect_status(200);
    disk.fill();

    let grant = format!(
        "/api/oauth2/server/tokens?grant_type=client_credentials&client_id=demo&client_secret={}",
        crate::harness::SECRET
    );
    // What is issued until the last page is full is kept; then it says that it cannot.
    eventually("the disk is full for the store too", async || {
        let answer = sidecar.get(&grant).await;
        match answer.status.as_u16() {
            200 => false,
            503 => {
                assert!(answer.header("retry-after").is_some());
                true
            }
            other => panic!("{other}: {answer:?}"),
        }
    })
    .await;
    // A revocation that cannot be kept is not acknowledged.
    let answer = sidecar
        .get(&format!("/api/oauth2/server/tokens/revoke?token={revoked}"))
        .await;
    assert!(
        answer.status == 503 || answer.json()["code"] == 0,
        "{answer:?}"
    );
    // Who has a token goes on.
    sidecar
        .call()
        .bearer(&token)
        .get("/")
        .await
        .expect_status(200);
    sidecar.admin_get("/readyz").await.expect_status(200);
    eventually("the log says so", async || {
        sidecar.log_text().contains("full")
    })
    .await;

    disk.make_room();
    eventually("it issues again", async || {
        sidecar.get(&grant).await.status == 200
    })
    .await;
    sidecar
        .get(&format!("/api/oauth2/server/tokens/revoke?token={revoked}"))
        .await
        .expect_status(200);
    sidecar
        .call()
        .bearer(&revoked)
        .get("/")
        .await
        .expect_refusal(401, "invalid_token");
    assert!(sidecar.is_running());
    sidecar.signal("TERM");
    assert_eq!(sidecar.ended().await, Some(0));
}

#[tokio::test]
async fn a_read_only_disk_is_69_and_named() {
    let Some(disk) = SmallDisk::mount("a_read_only_disk_is_69_and_named", "size=2m") else {
        return;
    };
    let backend = Backend::recording().await;
    let folder = on_disk(&backend, &disk);
    let shown = disk.0.path().join("sidegate.db").display().to_string();
    disk.options("remount,ro");
    expect_end(folder.path(), 69, &[&shown, "writable"]).await;
    disk.options("remount,rw");
    run(folder.path(), &["client", "add", "a"])
        .await
        .expect_code(0);
    disk.options("remount,ro");
    expect_end(folder.path(), 69, &[&shown, "writable"]).await;
    run(folder.path(), &["client", "add", "b"])
        .await
        .expect_code(69);
}

#[tokio::test]
async fn standard_error_that_nobody_reads_ends_nothing() {
    let backend = Backend::recording().await;
    let folder = Sidegate::before(&backend).client("demo", "sudo").write();
    // A port that is free now; whoever takes it first fails the test loudly.
    let admin = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut child = program()
        .args(["serve", "--config"])
        .arg(folder.path().join("config.toml"))
        .env("SIDEGATE__SERVER__ADMIN_LISTEN", admin.to_string())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    let asked = crate::harness::Call::to(admin);
    eventually("it is ready", async || {
        let answer = asked.try_get("/readyz").await;
        answer.is_some_and(|answer| answer.status == 200)
    })
    .await;
    for _ in 0..3 {
        asked.get("/livez").await.expect_status(200);
    }
    assert!(child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
}
