//! What the registry promises, with a store that can be held half-way and taken away.

use std::future::poll_fn;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::atomic::AtomicUsize;
use std::task::Poll;

use super::*;
use crate::base::oauth::Scopes;
use crate::base::secret::Secret;
use crate::clients::tests_support::{MemoryClients, client, file_client};
use crate::clients::{Origin, SecretDigest};

const NOW: UnixMillis = UnixMillis(1_000_000);
const LATER: UnixMillis = UnixMillis(2_000_000);

fn id(text: &str) -> ClientId {
    ClientId::parse(text).unwrap()
}

fn stored(name: &str, scopes: &str) -> (Client, Secret) {
    let (secret, digest) = SecretDigest::make().unwrap();
    (client(name, digest, scopes, Origin::Store), secret)
}

fn brought(name: &str, secret: &str) -> Client {
    let digest = SecretDigest::of_brought(&Secret::new(secret.to_owned())).unwrap();
    client(name, digest, "sudo", Origin::Store)
}

/// Drives a future as far as it comes at once.
async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

/// A loaded registry over `store`.
async fn registry(file: Vec<Client>, store: &Arc<MemoryClients>) -> Arc<Registry> {
    let registry = unloaded(file, store);
    registry.load().await.unwrap();
    registry
}

fn unloaded(file: Vec<Client>, store: &Arc<MemoryClients>) -> Arc<Registry> {
    Arc::new(Registry::new(
        file,
        Arc::clone(store) as Arc<dyn ClientStore>,
    ))
}

#[tokio::test]
async fn a_client_of_the_file_shadows_one_of_the_store() {
    let store = Arc::new(MemoryClients::new());
    let (kept, secret) = stored("a", "read");
    store.put(kept);
    let registry = registry(vec![file_client("a", "of the file", "sudo")], &store).await;
    assert_eq!(registry.get(&id("a")).unwrap().origin, Origin::File);
    assert!(registry.authenticate("a", "of the file", NOW).await.is_ok());
    let shadowed = registry.authenticate("a", secret.expose(), NOW).await;
    assert_eq!(shadowed.err(), Some(AuthenticateError::Wrong));

    registry.replace_file_clients(Vec::new());
    assert_eq!(registry.get(&id("a")).unwrap().origin, Origin::Store);
    assert!(
        registry
            .authenticate("a", secret.expose(), NOW)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn an_unknown_id_and_a_wrong_secret_read_alike() {
    let store = Arc::new(MemoryClients::new());
    store.put(stored("kept", "sudo").0);
    let registry = registry(vec![file_client("filed", "right", "sudo")], &store).await;
    for (name, secret) in [
        ("nobody", "right"),
        ("filed", "wrong"),
        ("filed", ""),
        ("filed", "right "),
        ("kept", "right"),
        ("", ""),
        ("not an id\n", "right"),
        ("FILED", "right"),
    ] {
        let refused = registry.authenticate(name, secret, NOW).await.err();
        assert_eq!(refused, Some(AuthenticateError::Wrong), "{name:?}");
    }
}

#[tokio::test]
async fn a_client_without_a_secret_cannot_be_anybody() {
    let store = Arc::new(MemoryClients::new());
    let mut bare = file_client("bare", "x", "sudo");
    bare.secrets.clear();
    let registry = registry(vec![bare], &store).await;
    for secret in ["", "x"] {
        let refused = registry.authenticate("bare", secret, NOW).await.err();
        assert_eq!(refused, Some(AuthenticateError::Wrong));
    }
}

#[tokio::test]
async fn a_rotated_secret_holds_until_its_overlap_ends() {
    let store = Arc::new(MemoryClients::new());
    let (kept, old) = stored("a", "sudo");
    store.put(kept);
    let registry = registry(Vec::new(), &store).await;
    let (new, digest) = SecretDigest::make().unwrap();
    store
        .rotate_secret(&id("a"), &digest, LATER, NOW)
        .await
        .unwrap();
    registry.refresh(&id("a")).await.unwrap();
    for (secret, at, good) in [
        (&old, NOW, true),
        (&new, NOW, true),
        (&old, LATER, false),
        (&new, LATER, true),
    ] {
        let outcome = registry.authenticate("a", secret.expose(), at).await;
        assert_eq!(outcome.is_ok(), good);
    }
}

#[tokio::test]
async fn a_remembered_secret_is_refused_once_it_was_rotated_away() {
    let store = Arc::new(MemoryClients::new());
    store.put(brought("a", "word"));
    let registry = registry(Vec::new(), &store).await;
    assert!(registry.authenticate("a", "word", NOW).await.is_ok());
    assert!(registry.authenticate("a", "word", NOW).await.is_ok());
    assert!(registry.authenticate("a", "ward", NOW).await.is_err());
    store.put(brought("a", "another"));
    registry.refresh(&id("a")).await.unwrap();
    assert!(registry.authenticate("a", "word", NOW).await.is_err());
    assert!(registry.authenticate("a", "another", NOW).await.is_ok());
}

#[tokio::test]
async fn a_remembered_secret_is_found_without_stretching_it_again() {
    let store = Arc::new(MemoryClients::new());
    store.put(brought("a", "word"));
    let registry = registry(Vec::new(), &store).await;
    assert!(registry.authenticate("a", "word", NOW).await.is_ok());
    // Nothing left the task: the answer was there at the first poll.
    let mut again = std::pin::pin!(registry.authenticate("a", "word", NOW));
    assert!(matches!(
        poll_once(again.as_mut()).await,
        Poll::Ready(Ok(_))
    ));
    let mut wrong = std::pin::pin!(registry.authenticate("a", "ward", NOW));
    assert!(poll_once(wrong.as_mut()).await.is_pending());
}

#[tokio::test]
async fn every_failure_does_the_work_of_the_costliest_client() {
    let store = Arc::new(MemoryClients::new());
    store.put(brought("costly", "word"));
    store.put(stored("made", "sudo").0);
    let registry = registry(vec![file_client("filed", "right", "sudo")], &store).await;
    for name in ["costly", "made", "filed", "nobody", "not an id\n"] {
        let mut failing = std::pin::pin!(registry.authenticate(name, "wrong", NOW));
        assert!(
            poll_once(failing.as_mut()).await.is_pending(),
            "{name:?} was refused at once"
        );
    }
    // A right secret that is cheap to check does not wait behind them.
    let mut right = std::pin::pin!(registry.authenticate("filed", "right", NOW));
    assert!(matches!(
        poll_once(right.as_mut()).await,
        Poll::Ready(Ok(_))
    ));
}

#[tokio::test]
async fn two_secrets_that_were_brought_along_hold_side_by_side() {
    let store = Arc::new(MemoryClients::new());
    let mut both = brought("a", "first");
    both.secrets.extend(brought("a", "second").secrets);
    store.put(both);
    let registry = registry(Vec::new(), &store).await;
    for (secret, good) in [
        ("second", true),
        ("first", true),
        ("third", false),
        ("second", true),
    ] {
        let outcome = registry.authenticate("a", secret, NOW).await;
        assert_eq!(outcome.is_ok(), good, "{secret}");
    }
}

#[tokio::test]
async fn a_flood_of_costly_checks_is_cut_off_and_leaves_the_cheap_ones_alone() {
    let store = Arc::new(MemoryClients::new());
    // Rounds enough that none ends before all were begun.
    let slow = SecretDigest::Hashed {
        salt: [1; 16],
        iterations: NonZeroU32::new(200_000).unwrap(),
        hash: [0; 32],
    };
    store.put(client("slow", slow, "sudo", Origin::Store));
    let registry = registry(vec![file_client("filed", "right", "sudo")], &store).await;
    let mut waiting: Vec<_> = (0..50)
        .map(|_| Box::pin(registry.authenticate("slow", "wrong", NOW)))
        .collect();
    for attempt in &mut waiting {
        assert!(poll_once(attempt.as_mut()).await.is_pending());
    }
    let beyond = registry.authenticate("slow", "wrong", NOW).await;
    assert_eq!(beyond.err(), Some(AuthenticateError::Unavailable));
    assert!(registry.authenticate("filed", "right", NOW).await.is_ok());
}

#[tokio::test]
async fn before_the_first_load_the_first_caller_loads() {
    let store = Arc::new(MemoryClients::new());
    let (kept, secret) = stored("a", "sudo");
    store.put(kept);
    let registry = unloaded(Vec::new(), &store);
    assert!(registry.get(&id("a")).is_none());
    assert!(
        registry
            .authenticate("a", secret.expose(), NOW)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn nobody_is_told_wrong_while_the_store_was_never_read() {
    let store = Arc::new(MemoryClients::new());
    store.down.store(true, Ordering::SeqCst);
    let registry = unloaded(vec![file_client("filed", "right", "sudo")], &store);
    assert!(registry.load().await.is_err());
    for (name, secret) in [("a", "x"), ("filed", "right"), ("filed", "wrong")] {
        let refused = registry.authenticate(name, secret, NOW).await.err();
        assert_eq!(refused, Some(AuthenticateError::Unavailable));
    }
    assert!(
        registry.get(&id("filed")).is_some(),
        "the file needs no store"
    );
}

#[tokio::test]
async fn a_rotation_that_could_not_be_read_stops_the_old_secret() {
    let store = Arc::new(MemoryClients::new());
    let (kept, old) = stored("a", "sudo");
    store.put(kept);
    let registry = registry(Vec::new(), &store).await;
    let (renewed, new) = stored("a", "sudo");
    store.put(renewed);
    store.down.store(true, Ordering::SeqCst);
    assert!(registry.refresh(&id("a")).await.is_err());
    let away = registry.authenticate("a", old.expose(), NOW).await;
    assert_eq!(away.err(), Some(AuthenticateError::Unavailable));
    store.down.store(false, Ordering::SeqCst);
    let refused = registry.authenticate("a", old.expose(), NOW).await;
    assert_eq!(refused.err(), Some(AuthenticateError::Wrong));
    assert!(registry.authenticate("a", new.expose(), NOW).await.is_ok());
}

#[tokio::test]
async fn a_refresh_that_was_given_up_is_made_up_for() {
    let store = Arc::new(MemoryClients::new());
    let (kept, secret) = stored("a", "sudo");
    store.put(kept);
    let registry = registry(Vec::new(), &store).await;
    store.take(&id("a"));
    store.hold();
    {
        let given_up = id("a");
        let mut refresh = std::pin::pin!(registry.refresh(&given_up));
        assert!(poll_once(refresh.as_mut()).await.is_pending());
    }
    store.let_go(1_000);
    let refused = registry.authenticate("a", secret.expose(), NOW).await;
    assert_eq!(refused.err(), Some(AuthenticateError::Wrong));
}

#[tokio::test]
async fn a_read_from_before_a_removal_does_not_bring_the_client_back() {
    let store = Arc::new(MemoryClients::new());
    let (kept, _) = stored("a", "sudo");
    let registry = registry(Vec::new(), &store).await;
    store.put(kept);
    store.hold();
    let name = id("a");
    let mut added = std::pin::pin!(registry.refresh(&name));
    assert!(
        poll_once(added.as_mut()).await.is_pending(),
        "the read saw the client"
    );
    store.take(&name);
    let mut removed = std::pin::pin!(registry.refresh(&name));
    assert!(poll_once(removed.as_mut()).await.is_pending());
    store.let_go(2);
    // The later one is driven first: order of wake-ups must not matter.
    let (removed, added) = tokio::join!(removed, added);
    added.unwrap();
    removed.unwrap();
    assert!(registry.get(&name).is_none());
}

#[tokio::test]
async fn a_load_from_before_a_change_does_not_undo_the_refresh_after_it() {
    let store = Arc::new(MemoryClients::new());
    let registry = registry(Vec::new(), &store).await;
    let (kept, _) = stored("a", "read");
    store.put(kept);
    store.hold();
    let mut load = std::pin::pin!(registry.load());
    assert!(poll_once(load.as_mut()).await.is_pending());
    store.put(stored("a", "read write").0);
    let name = id("a");
    let mut refresh = std::pin::pin!(registry.refresh(&name));
    assert!(poll_once(refresh.as_mut()).await.is_pending());
    store.let_go(2);
    let (refresh, load) = tokio::join!(refresh, load);
    load.unwrap();
    refresh.unwrap();
    let scopes = registry.get(&name).unwrap().scopes.clone();
    assert_eq!(scopes, Scopes::parse("read write").unwrap());
}

#[tokio::test]
async fn a_reload_of_the_file_and_a_refresh_of_the_store_both_hold() {
    let store = Arc::new(MemoryClients::new());
    let registry = registry(vec![file_client("old", "x", "sudo")], &store).await;
    store.put(stored("kept", "sudo").0);
    store.hold();
    let name = id("kept");
    let mut refresh = std::pin::pin!(registry.refresh(&name));
    assert!(poll_once(refresh.as_mut()).await.is_pending());
    registry.replace_file_clients(vec![file_client("new", "x", "sudo")]);
    store.let_go(1);
    refresh.await.unwrap();
    assert!(registry.get(&id("old")).is_none());
    assert!(registry.get(&id("new")).is_some() && registry.get(&name).is_some());
}

#[tokio::test]
async fn one_caller_reads_when_many_find_the_store_away() {
    let store = Arc::new(MemoryClients::new());
    let registry = unloaded(Vec::new(), &store);
    store.hold();
    let mut first = std::pin::pin!(registry.authenticate("a", "x", NOW));
    assert!(poll_once(first.as_mut()).await.is_pending());
    let second = registry.authenticate("a", "x", NOW).await;
    assert_eq!(second.err(), Some(AuthenticateError::Unavailable));
    store.let_go(1);
    assert_eq!(first.await.err(), Some(AuthenticateError::Wrong));
    assert_eq!(AtomicUsize::load(&store.reads, Ordering::SeqCst), 1);
}
