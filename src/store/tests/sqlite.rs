//! What is particular to one file on a disk: bad files, full disks, other files, sudden ends.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::*;
use crate::tokens::{Revocation, TokenId};

fn directory() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("s.db");
    (directory, file)
}

async fn refused(file: &Path, mode: OpenMode) -> OpenError {
    let error = try_open(file, mode).await.map(drop).unwrap_err();
    let said = error.to_string();
    assert!(said.contains(file.to_str().unwrap()), "{said}");
    error
}

#[tokio::test]
async fn the_files_are_for_their_user_only() {
    let (directory, file) = directory();
    let stores = opened(&file).await;
    stores.tokens.insert(token(1, "app")).await.unwrap();
    let entries: Vec<_> = fs::read_dir(directory.path()).unwrap().flatten().collect();
    assert_eq!(entries.len(), 3);
    for entry in entries {
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", entry.path());
    }
    stores.close().await;
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    assert!(stores.tokens.find(&hash(1)).await.is_err());
    let again = opened(&file).await;
    assert!(again.tokens.find(&hash(1)).await.unwrap().is_some());
}

#[tokio::test]
async fn what_cannot_be_opened_says_which_file_and_what_to_do() {
    let (directory, file) = directory();
    let error = refused(&file, OpenMode::Existing).await;
    assert!(matches!(error, OpenError::Missing { .. }), "{error}");
    assert!(!file.exists());
    let error = refused(&directory.path().join("no/s.db"), OpenMode::Create).await;
    assert!(matches!(error, OpenError::NoDirectory { .. }), "{error}");
    let error = refused(directory.path(), OpenMode::Create).await;
    assert!(matches!(error, OpenError::NotAFile { .. }), "{error}");
    fs::write(&file, "no database ".repeat(1_000)).unwrap();
    let error = refused(&file, OpenMode::Create).await;
    assert!(matches!(error, OpenError::NotADatabase { .. }), "{error}");
    fs::remove_file(&file).unwrap();
    let other = rusqlite::Connection::open(&file).unwrap();
    other.execute_batch("CREATE TABLE theirs (x)").unwrap();
    drop(other);
    let error = refused(&file, OpenMode::Create).await;
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
}

#[tokio::test]
async fn a_damaged_store_and_one_of_a_later_program_are_refused() {
    let (_directory, file) = directory();
    let stores = opened(&file).await;
    stores.tokens.insert(token(1, "app")).await.unwrap();
    stores.write_raw_for_test("PRAGMA user_version = 99").await;
    stores.close().await;
    let error = refused(&file, OpenMode::Create).await;
    assert!(
        matches!(error, OpenError::SchemaTooNew { found: 99, .. }),
        "{error}"
    );
    let mut bytes = fs::read(&file).unwrap();
    bytes[60..64].copy_from_slice(&[0, 0, 0, 1]);
    bytes[4_096..].fill(0xa5);
    fs::write(&file, bytes).unwrap();
    let error = refused(&file, OpenMode::Create).await;
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn a_full_disk_fails_the_operation_and_room_mends_it() {
    let (_directory, file) = directory();
    let stores = opened(&file).await;
    stores.write_raw_for_test("PRAGMA max_page_count = 1").await;
    let mut kept = 0;
    let error = loop {
        match stores.tokens.insert(token(kept, "app")).await {
            Ok(_) => kept += 1,
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("the disk is full"), "{error}");
    stores
        .write_raw_for_test("PRAGMA max_page_count = 100000")
        .await;
    let added = stores.tokens.insert(token(kept, "app")).await.unwrap();
    assert_eq!(added, TokenId(i64::try_from(kept).unwrap() + 1));
}

#[tokio::test]
async fn a_file_that_was_taken_away_or_replaced_is_noticed_by_every_operation() {
    let (directory, file) = directory();
    let stores = opened(&file).await;
    stores.tokens.insert(token(1, "app")).await.unwrap();
    let aside = directory.path().join("aside");
    fs::rename(&file, &aside).unwrap();
    fs::write(&file, "").unwrap();
    let error = stores.changes.poll().await.unwrap_err();
    assert!(error.to_string().contains("deleted or replaced"), "{error}");
    assert!(stores.tokens.find(&hash(1)).await.is_err());
    assert!(stores.tokens.insert(token(2, "app")).await.is_err());
    fs::rename(&aside, &file).unwrap();
    assert!(stores.tokens.find(&hash(1)).await.unwrap().is_some());
}

#[tokio::test]
async fn many_may_make_one_store_at_once() {
    let (_directory, file) = directory();
    let opens = (0..8).map(|_| tokio::spawn(opens_and_says_its_id(file.clone())));
    let ids = futures_util::future::try_join_all(opens).await.unwrap();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

async fn opens_and_says_its_id(file: PathBuf) -> String {
    opened(&file).await.id().to_owned()
}

#[tokio::test]
async fn a_write_whose_caller_has_gone_is_done_wholly_or_not_at_all() {
    let (_directory, file) = directory();
    let stores = opened(&file).await;
    stores.tokens.insert(token(1, "app")).await.unwrap();
    for _ in 0..20 {
        let revoke = stores.tokens.revoke(Revocation::Hash(hash(1)), NOW);
        let _ = futures_util::FutureExt::now_or_never(revoke);
    }
    let told = stores.changes.poll().await.unwrap().len();
    stores.tokens.insert(token(2, "app")).await.unwrap();
    let told = told + stores.changes.poll().await.unwrap().len();
    let found = stores.tokens.find(&hash(1)).await.unwrap().unwrap();
    assert_eq!(told, usize::from(found.revoked.is_some()));
}

const CHILD: &str = "SIDEGATE_TEST_STORE_FILE";

/// Not a test of its own: the process that is killed below.
#[tokio::test]
async fn child_that_inserts_until_it_is_killed() {
    let Some(file) = std::env::var_os(CHILD) else {
        return;
    };
    let stores = opened(Path::new(&file)).await;
    let first = u64::from(std::process::id()) << 32;
    for n in first.. {
        let kept = stores.tokens.insert(token(n, "app")).await.unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "kept {n} {kept}").unwrap();
        out.flush().unwrap();
    }
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_by_kill_9() {
    let (_directory, file) = directory();
    let mut kept = Vec::new();
    for round in 1..=4 {
        let name = "store::tests::sqlite::child_that_inserts_until_it_is_killed";
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture"])
            .env(CHILD, &file)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut killed = false;
        let wanted = kept.len() + 20 * round;
        // All that it said counts, also what it said before the signal reached it.
        while let Some(Ok(line)) = lines.next() {
            let mut words = line
                .split_once("kept ")
                .map_or("", |(_, rest)| rest)
                .split(' ');
            if let (Some(Ok(n)), Some(Ok(id))) = (
                words.next().map(str::parse::<u64>),
                words.next().map(str::parse::<i64>),
            ) {
                kept.push((n, id));
            }
            if kept.len() >= wanted && !killed {
                child.kill().unwrap();
                killed = true;
            }
        }
        child.wait().unwrap();
        assert!(killed, "the child ended by itself");
        let stores = opened(&file).await;
        for (n, id) in &kept {
            let found = stores.tokens.find(&hash(*n)).await.unwrap();
            assert_eq!(found.map(|token| token.id), Some(TokenId(*id)));
        }
        stores.write_raw_for_test("PRAGMA quick_check").await;
        stores.close().await;
        let file = rusqlite::Connection::open(&file).unwrap();
        let said: String = file
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(said, "ok");
    }
}
