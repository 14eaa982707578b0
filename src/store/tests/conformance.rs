//! What every engine must do, written against the features' traits only. `fresh` opens two handles on
//! one new store, as two processes have them.

use std::collections::HashSet;

use super::*;
use crate::clients::{Client, ClientStoreError, Origin, SecretDigest};
use crate::clients::{ClientSecret, SudoGrant, TenantGrant};
use crate::store::Change;
use crate::tokens::{Revocation, TokenId};

async fn fresh() -> (tempfile::TempDir, Stores, Stores) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("s.db");
    let (a, b) = (opened(&file).await, opened(&file).await);
    (directory, a, b)
}

fn client(name: &str) -> Client {
    Client {
        id: id(name),
        secrets: vec![ClientSecret {
            digest: SecretDigest::make().unwrap().1,
            expires: None,
        }],
        scopes: Scopes::parse("sodu read").unwrap(),
        tenants: TenantGrant::parse(["id:7", "code:\"Ä\""]).unwrap(),
        sudo: SudoGrant::parse(["email:*@Example.com"]).unwrap(),
        rate_limits: vec!["per-client".to_owned()],
        origin: Origin::Store,
        created: None,
    }
}

#[tokio::test]
async fn a_token_is_found_as_it_was_kept_by_whoever_has_the_store_open() {
    let (_directory, a, b) = fresh().await;
    let kept = a.tokens.insert(token(1, "app")).await.unwrap();
    let found = b.tokens.find(&hash(1)).await.unwrap().unwrap();
    assert_eq!((found.id, found.client_id.as_str()), (kept, "app"));
    assert_eq!(found.scopes.to_string(), "sodu read");
    assert_eq!((found.issued, found.expires), (NOW, later(3_600)));
    assert_eq!(found.revoked, None);
    assert_eq!(b.tokens.find_by_id(kept).await.unwrap(), Some(found));
    assert_eq!(b.tokens.find(&hash(2)).await.unwrap(), None);
    assert_eq!(a.id(), b.id());
}

#[tokio::test]
async fn sixty_four_simultaneous_inserts_get_numbers_of_their_own() {
    let (_directory, a, b) = fresh().await;
    let inserts = (0..64).map(|n| {
        let stores = if n % 2 == 0 { &a } else { &b };
        stores.tokens.insert(token(n, "app"))
    });
    let ids = futures_util::future::try_join_all(inserts).await.unwrap();
    assert_eq!(ids.into_iter().collect::<HashSet<_>>().len(), 64);
}

#[tokio::test]
async fn one_insert_that_fails_takes_none_of_its_batch_with_it() {
    let (_directory, a, _b) = fresh().await;
    let inserts = (0..16).map(|n| a.tokens.insert(token(n / 2, "app")));
    let done = futures_util::future::join_all(inserts).await;
    assert_eq!(done.iter().filter(|outcome| outcome.is_ok()).count(), 8);
    for n in 0..8 {
        assert!(a.tokens.find(&hash(n)).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_revocation_ends_what_is_live_once_and_keeps_the_row() {
    let (_directory, a, b) = fresh().await;
    a.tokens.insert(token(1, "app")).await.unwrap();
    let revoke = || a.tokens.revoke(Revocation::Hash(hash(1)), later(5));
    assert_eq!(revoke().await.unwrap(), [hash(1)]);
    assert_eq!(revoke().await.unwrap(), []);
    let found = b.tokens.find(&hash(1)).await.unwrap().unwrap();
    assert_eq!(found.revoked, Some(later(5)));
}

#[tokio::test]
async fn revocations_mean_what_they_name() {
    let (_directory, a, _b) = fresh().await;
    let first = a.tokens.insert(token(1, "app")).await.unwrap();
    for (number, client) in [(2, "app"), (3, "app"), (4, "other")] {
        a.tokens.insert(token(number, client)).await.unwrap();
    }
    let late = NewToken {
        issued: later(10),
        ..token(5, "other")
    };
    a.tokens.insert(late).await.unwrap();
    let now = later(20);
    let by_id = a.tokens.revoke(Revocation::Id(first), now).await.unwrap();
    assert_eq!(by_id, [hash(1)]);
    let client = Revocation::Client(id("app"));
    let of_client: HashSet<_> = a
        .tokens
        .revoke(client, now)
        .await
        .unwrap()
        .into_iter()
        .collect();
    assert_eq!(of_client, HashSet::from([hash(2), hash(3)]));
    let before = Revocation::IssuedBefore(later(10));
    assert_eq!(a.tokens.revoke(before, now).await.unwrap(), [hash(4)]);
    let expired = Revocation::Hash(hash(5));
    assert_eq!(a.tokens.revoke(expired, later(3_600)).await.unwrap(), []);
}

#[tokio::test]
async fn a_token_on_its_way_while_its_client_was_revoked_is_born_revoked() {
    let (_directory, a, b) = fresh().await;
    let client = Revocation::Client(id("app"));
    a.tokens.revoke(client, later(1)).await.unwrap();
    b.tokens.insert(token(1, "app")).await.unwrap();
    b.tokens.insert(token(2, "other")).await.unwrap();
    let after = NewToken {
        issued: later(1),
        ..token(3, "app")
    };
    b.tokens.insert(after).await.unwrap();
    for (number, live) in [(1, false), (2, true), (3, true)] {
        let found = a.tokens.find(&hash(number)).await.unwrap().unwrap();
        assert_eq!(found.is_live(later(2)), live, "{number}");
    }
}

#[tokio::test]
async fn listings_go_from_the_newest_in_pages() {
    let (_directory, a, _b) = fresh().await;
    for n in 0..6 {
        let client = if n == 2 { "other" } else { "app" };
        a.tokens.insert(token(n, client)).await.unwrap();
    }
    a.tokens
        .revoke(Revocation::Hash(hash(4)), NOW)
        .await
        .unwrap();
    let app = id("app");
    let page = async |all, before, limit| -> Vec<i64> {
        let listed = a.tokens.list(Some(&app), all, NOW, before, limit);
        listed
            .await
            .unwrap()
            .iter()
            .map(|token| token.id.0)
            .collect()
    };
    assert_eq!(page(false, None, 2).await, [6, 4]);
    assert_eq!(page(false, Some(TokenId(4)), 2).await, [2, 1]);
    assert_eq!(page(true, None, 10).await, [6, 5, 4, 2, 1]);
    let everybody = a
        .tokens
        .list(None, false, later(3_600), None, 10)
        .await
        .unwrap();
    assert!(everybody.is_empty());
}

#[tokio::test]
async fn pruning_goes_in_batches_and_no_number_comes_back() {
    let (_directory, a, _b) = fresh().await;
    for n in 0..5 {
        a.tokens.insert(token(n, "app")).await.unwrap();
    }
    a.tokens
        .revoke(Revocation::Hash(hash(0)), NOW)
        .await
        .unwrap();
    assert_eq!(a.tokens.prune(later(1), 10).await.unwrap(), 1);
    assert_eq!(a.tokens.prune(later(3_601), 3).await.unwrap(), 3);
    assert_eq!(a.tokens.prune(later(3_601), 3).await.unwrap(), 1);
    assert_eq!(a.tokens.insert(token(9, "app")).await.unwrap(), TokenId(6));
}

#[tokio::test]
async fn a_client_is_found_as_it_was_kept_and_its_id_is_taken() {
    let (_directory, a, b) = fresh().await;
    let kept = client("app");
    a.clients.insert(&kept, NOW).await.unwrap();
    let again = b.clients.insert(&kept, NOW).await.unwrap_err();
    assert!(matches!(again, ClientStoreError::Exists));
    let found = b.clients.find(&kept.id).await.unwrap().unwrap();
    assert_eq!(
        (&found.scopes, &found.tenants),
        (&kept.scopes, &kept.tenants)
    );
    assert_eq!(
        (&found.sudo, &found.rate_limits),
        (&kept.sudo, &kept.rate_limits)
    );
    assert_eq!(found.created, Some(NOW));
    assert_eq!(
        found.secrets[0].digest.to_stored(),
        kept.secrets[0].digest.to_stored()
    );
    a.clients.insert(&client("a"), NOW).await.unwrap();
    let ids: Vec<_> = b
        .clients
        .list()
        .await
        .unwrap()
        .into_iter()
        .map(|c| c.id)
        .collect();
    assert_eq!(ids, [id("a"), id("app")]);
}

#[tokio::test]
async fn a_removed_client_takes_its_tokens_along() {
    let (_directory, a, b) = fresh().await;
    a.clients.insert(&client("app"), NOW).await.unwrap();
    a.tokens.insert(token(1, "app")).await.unwrap();
    assert!(b.clients.remove(&id("app"), later(1)).await.unwrap());
    assert!(!b.clients.remove(&id("app"), later(1)).await.unwrap());
    assert!(a.clients.find(&id("app")).await.unwrap().is_none());
    let found = a.tokens.find(&hash(1)).await.unwrap().unwrap();
    assert_eq!(found.revoked, Some(later(1)));
}

#[tokio::test]
async fn a_new_client_does_not_come_by_the_tokens_of_an_earlier_one_of_its_id() {
    let (_directory, a, b) = fresh().await;
    // Of a client of the file, say, that was taken out of it.
    a.tokens.insert(token(1, "app")).await.unwrap();
    a.tokens.insert(token(2, "other")).await.unwrap();
    let revoked = async |n| a.tokens.find(&hash(n)).await.unwrap().unwrap().revoked;
    b.clients.insert(&client("app"), later(1)).await.unwrap();
    assert_eq!(revoked(1).await, Some(later(1)));
    assert_eq!(revoked(2).await, None);
    let again = b.clients.insert(&client("app"), later(3)).await;
    assert!(matches!(again, Err(ClientStoreError::Exists)));
    a.tokens
        .insert(NewToken {
            issued: later(1),
            ..token(3, "app")
        })
        .await
        .unwrap();
    assert_eq!(revoked(3).await, None);
}

#[tokio::test]
async fn a_rotated_secret_ends_when_it_is_told_and_never_lives_longer_by_it() {
    let (_directory, a, _b) = fresh().await;
    a.clients.insert(&client("app"), NOW).await.unwrap();
    let rotate = async |others_end| {
        let made = SecretDigest::make().unwrap().1;
        a.clients
            .rotate_secret(&id("app"), &made, others_end, NOW)
            .await
            .unwrap()
    };
    let ends = async || -> Vec<_> {
        let found = a.clients.find(&id("app")).await.unwrap().unwrap();
        found.secrets.iter().map(|secret| secret.expires).collect()
    };
    assert!(rotate(later(10)).await);
    assert_eq!(ends().await, [Some(later(10)), None]);
    assert!(rotate(later(20)).await);
    assert_eq!(ends().await, [Some(later(10)), Some(later(20)), None]);
    assert!(rotate(NOW).await);
    assert_eq!(ends().await, [None]);
    let made = SecretDigest::make().unwrap().1;
    let nobody = a.clients.rotate_secret(&id("no"), &made, NOW, NOW).await;
    assert!(!nobody.unwrap());
}

#[tokio::test]
async fn each_hears_what_the_other_changed_and_nothing_twice() {
    let (_directory, a, b) = fresh().await;
    assert_eq!(b.changes.poll().await.unwrap(), []);
    a.tokens.insert(token(1, "app")).await.unwrap();
    assert_eq!(b.changes.poll().await.unwrap(), []);
    a.tokens
        .revoke(Revocation::Hash(hash(1)), NOW)
        .await
        .unwrap();
    a.clients.insert(&client("app"), NOW).await.unwrap();
    let expected = [Change::Token(hash(1)), Change::Client(id("app"))];
    assert_eq!(b.changes.poll().await.unwrap(), expected);
    assert_eq!(b.changes.poll().await.unwrap(), []);
    assert_eq!(a.changes.poll().await.unwrap(), expected);
}

#[tokio::test]
async fn a_reader_that_was_away_longer_than_the_log_is_kept_forgets_everything() {
    let (_directory, a, b) = fresh().await;
    for n in 1..=2 {
        let lives = NewToken {
            expires: later(1_000_000),
            ..token(n, "app")
        };
        a.tokens.insert(lives).await.unwrap();
    }
    a.tokens
        .revoke(Revocation::Hash(hash(1)), NOW)
        .await
        .unwrap();
    a.tokens
        .revoke(Revocation::Hash(hash(2)), later(90_000))
        .await
        .unwrap();
    assert_eq!(b.changes.poll().await.unwrap(), [Change::Everything]);
    assert_eq!(b.changes.poll().await.unwrap(), []);
}
