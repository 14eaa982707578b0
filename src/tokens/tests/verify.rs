//! What the verifier promises, with a store that can be stopped half-way.

use std::sync::atomic::AtomicUsize;

use async_trait::async_trait;
use tokio::sync::{Semaphore, mpsc};

use super::*;
use crate::base::clock::UnixMillis;
use crate::base::oauth::Scopes;
use crate::tokens::{NewToken, Revocation, StoreUnavailable, TokenId, TokenRecord};

const START: UnixMillis = UnixMillis(1_000_000);
const LIFE: Duration = Duration::from_secs(3600);

/// One token, readable as often as `open` has permits; each read announces itself on `reads`.
struct SteeredStore {
    record: Mutex<Option<TokenRecord>>,
    failing: AtomicBool,
    open: Semaphore,
    read_count: AtomicUsize,
    reads: mpsc::UnboundedSender<()>,
}

impl SteeredStore {
    fn set(&self, record: Option<TokenRecord>) {
        *self.record.lock().unwrap() = record;
    }
}

#[async_trait]
impl TokenStore for SteeredStore {
    async fn find(&self, _: &TokenHash) -> Result<Option<TokenRecord>, StoreUnavailable> {
        self.read_count.fetch_add(1, Ordering::SeqCst);
        // What is read is fixed before the read is let go: a slow answer is an old answer.
        let record = self.record.lock().unwrap().clone();
        let failing = self.failing.load(Ordering::SeqCst);
        self.reads.send(()).unwrap();
        self.open.acquire().await.unwrap().forget();
        if failing {
            Err(StoreUnavailable("down".into()))
        } else {
            Ok(record)
        }
    }
    async fn insert(&self, _: NewToken) -> Result<TokenId, StoreUnavailable> {
        unreachable!()
    }
    async fn find_by_id(&self, _: TokenId) -> Result<Option<TokenRecord>, StoreUnavailable> {
        unreachable!()
    }
    async fn list(
        &self,
        _: Option<&ClientId>,
        _: bool,
        _: UnixMillis,
        _: Option<TokenId>,
        _: u32,
    ) -> Result<Vec<TokenRecord>, StoreUnavailable> {
        unreachable!()
    }
    async fn revoke(
        &self,
        _: Revocation,
        _: UnixMillis,
    ) -> Result<Vec<TokenHash>, StoreUnavailable> {
        unreachable!()
    }
    async fn prune(&self, _: UnixMillis, _: u32) -> Result<u64, StoreUnavailable> {
        unreachable!()
    }
}

struct Unwatched;
impl Watcher for Unwatched {
    fn looked_up(&self, _: &Verdict) {}
    fn store_read(&self, _: bool) {}
    fn store_is_up(&self, _: bool) {}
}

struct Bench {
    store: Arc<SteeredStore>,
    verifier: Arc<Verifier>,
    clock: Clock,
    reads: mpsc::UnboundedReceiver<()>,
    token: PresentedToken,
    claim: TokenClaim<'static>,
}

impl Bench {
    fn new() -> Self {
        let (token, _) = crate::tokens::format::new_access_token().unwrap();
        let claim = TokenClaim::read(token.expose().to_owned().into()).unwrap();
        let token = claim.check().unwrap();
        let (sender, reads) = mpsc::unbounded_channel();
        let store = Arc::new(SteeredStore {
            record: Mutex::new(Some(live_record())),
            failing: AtomicBool::new(false),
            open: Semaphore::new(0),
            read_count: AtomicUsize::new(0),
            reads: sender,
        });
        let clock = Clock::manual(START);
        let verifier = Verifier::new(
            &Settings::default(),
            Arc::clone(&store) as Arc<dyn TokenStore>,
            Handle::current(),
            clock.clone(),
            Arc::new(Unwatched),
        );
        Self {
            store,
            verifier,
            clock,
            reads,
            token,
            claim,
        }
    }

    fn open_store(&self) {
        self.store.open.add_permits(1_000);
    }

    fn reads_so_far(&self) -> usize {
        self.store.read_count.load(Ordering::SeqCst)
    }

    fn ask(&self) -> tokio::task::JoinHandle<Result<Option<Arc<TokenFacts>>, StoreAway>> {
        let (verifier, token, now) = (Arc::clone(&self.verifier), self.token, self.clock.now());
        tokio::spawn(async move { verifier.verify(&token, now).await })
    }

    async fn is_good(&self) -> Result<bool, StoreAway> {
        self.verifier
            .verify(&self.token, self.clock.now())
            .await
            .map(|facts| facts.is_some())
    }
}

fn live_record() -> TokenRecord {
    TokenRecord {
        id: TokenId(7),
        client_id: ClientId::parse("demo").unwrap(),
        scopes: Scopes::parse("sudo").unwrap(),
        issued: START,
        expires: START.plus(LIFE),
        revoked: None,
    }
}

fn revoked_record() -> TokenRecord {
    TokenRecord {
        revoked: Some(START),
        ..live_record()
    }
}

#[tokio::test]
async fn sixty_four_concurrent_first_uses_make_one_store_read() {
    let mut bench = Bench::new();
    let asking: Vec<_> = (0..64).map(|_| bench.ask()).collect();
    bench.reads.recv().await.unwrap();
    bench.open_store();
    for answer in asking {
        assert!(answer.await.unwrap().unwrap().is_some());
    }
    assert_eq!(bench.reads_so_far(), 1);
    assert_eq!(bench.is_good().await, Ok(true));
    assert_eq!(bench.reads_so_far(), 1);
}

#[tokio::test]
async fn a_caller_that_hangs_up_does_not_end_the_lookup_for_the_others() {
    let mut bench = Bench::new();
    let first = bench.ask();
    bench.reads.recv().await.unwrap();
    let second = bench.ask();
    first.abort();
    bench.open_store();
    assert!(second.await.unwrap().unwrap().is_some());
    assert_eq!(bench.reads_so_far(), 1);
}

#[tokio::test]
async fn a_token_revoked_while_its_lookup_is_in_flight_is_refused_from_then_on() {
    let mut bench = Bench::new();
    let waiting = bench.ask();
    bench.reads.recv().await.unwrap(); // has read "live" and hangs
    bench.store.set(Some(revoked_record()));
    bench.verifier.forget(&bench.token.hash);
    let after = bench.ask(); // must not join the old lookup
    bench.reads.recv().await.unwrap();
    bench.open_store();
    assert!(after.await.unwrap().unwrap().is_none());
    assert!(
        waiting.await.unwrap().unwrap().is_none(),
        "looks again instead of using the old answer"
    );
    assert_eq!(bench.is_good().await, Ok(false));
}

#[tokio::test]
async fn forgetting_a_client_or_everything_supersedes_lookups_in_flight_too() {
    for forget in [(|v: &Verifier| v.forget_all()) as fn(&Verifier), |v| {
        v.forget_client(&ClientId::parse("demo").unwrap())
    }] {
        let mut bench = Bench::new();
        let waiting = bench.ask();
        bench.reads.recv().await.unwrap();
        bench.store.set(None);
        forget(&bench.verifier);
        bench.open_store();
        assert!(waiting.await.unwrap().unwrap().is_none());
        assert_eq!(bench.is_good().await, Ok(false));
    }
}

#[tokio::test]
async fn a_cached_token_is_forgotten_when_revoked_and_when_its_client_goes() {
    for forget in [
        (|b: &Bench| b.verifier.forget(&b.token.hash)) as fn(&Bench),
        |b| b.verifier.forget_client(&ClientId::parse("demo").unwrap()),
        |b| b.verifier.forget_all(),
    ] {
        let bench = Bench::new();
        bench.open_store();
        assert_eq!(bench.is_good().await, Ok(true));
        bench.store.set(Some(revoked_record()));
        assert_eq!(bench.is_good().await, Ok(true), "still cached");
        forget(&bench);
        assert_eq!(bench.is_good().await, Ok(false));
    }
}

#[tokio::test]
async fn an_unknown_token_is_remembered_as_unknown() {
    let bench = Bench::new();
    bench.open_store();
    bench.store.set(None);
    assert_eq!(bench.is_good().await, Ok(false));
    assert_eq!(bench.is_good().await, Ok(false));
    assert_eq!(bench.reads_so_far(), 1);
}

#[tokio::test]
async fn a_store_that_is_away_is_no_verdict_and_is_not_remembered() {
    let bench = Bench::new();
    bench.open_store();
    bench.store.failing.store(true, Ordering::SeqCst);
    assert_eq!(bench.is_good().await, Err(StoreAway));
    assert!(bench.verifier.store_is_away());
    bench.store.failing.store(false, Ordering::SeqCst);
    assert_eq!(bench.is_good().await, Ok(true));
    assert!(!bench.verifier.store_is_away());
}

#[tokio::test]
async fn a_token_ends_at_its_own_expiry_also_in_the_cache() {
    let bench = Bench::new();
    bench.open_store();
    assert_eq!(bench.is_good().await, Ok(true));
    bench.clock.advance(LIFE);
    assert_eq!(bench.is_good().await, Ok(false));
}

#[tokio::test]
async fn an_entry_is_good_for_the_cache_ttl_after_it_was_last_confirmed() {
    let bench = Bench::new();
    let ttl = Settings::default().cache_ttl;
    bench.open_store();
    assert_eq!(bench.is_good().await, Ok(true));
    bench.clock.advance(ttl);
    bench.verifier.heard(bench.clock.now());
    bench.clock.advance(ttl);
    assert_eq!(bench.is_good().await, Ok(true));
    assert_eq!(bench.reads_so_far(), 1, "the change feed confirmed it");
    bench.clock.advance(Duration::from_millis(1));
    assert_eq!(bench.is_good().await, Ok(true));
    assert_eq!(
        bench.reads_so_far(),
        2,
        "nothing confirmed it, so the store was read"
    );
}

#[tokio::test]
async fn an_entry_not_confirmed_in_time_is_not_used_while_the_store_is_away() {
    let bench = Bench::new();
    bench.open_store();
    assert_eq!(bench.is_good().await, Ok(true));
    bench.store.failing.store(true, Ordering::SeqCst);
    bench.clock.advance(Settings::default().cache_ttl);
    assert_eq!(bench.is_good().await, Ok(true));
    bench.clock.advance(Duration::from_millis(1));
    assert_eq!(bench.is_good().await, Err(StoreAway));
}

#[tokio::test]
async fn a_workers_own_table_answers_what_it_saw_until_anything_is_forgotten() {
    let bench = Bench::new();
    bench.open_store();
    let recent = Recent::default();
    bench
        .verifier
        .verify(&bench.token, bench.clock.now())
        .await
        .unwrap();
    let ask = || {
        bench
            .verifier
            .cached_through(&recent, &bench.claim, bench.clock.now())
    };
    assert!(matches!(ask(), Verdict::Good(_)));
    let epoch = bench.verifier.epoch.load(Ordering::SeqCst);
    assert!(
        recent.get(&bench.token.hash, epoch).is_some(),
        "it is in the table"
    );

    bench.verifier.forget(&bench.token.hash);
    assert!(matches!(ask(), Verdict::Unsure));
}

#[tokio::test]
async fn a_token_whose_checksum_does_not_fit_is_bad_without_a_read_and_leaves_nothing() {
    let bench = Bench::new();
    bench.open_store();
    let claim = TokenClaim::read(format!("sgt_{}", "A".repeat(38)).into()).unwrap();
    let verdict = bench
        .verifier
        .cached_through(&Recent::default(), &claim, bench.clock.now());
    assert!(matches!(verdict, Verdict::Bad));
    assert_eq!(bench.reads_so_far(), 0);
    let known = bench.verifier.cache.look(claim.hash(), START);
    assert!(matches!(known, Known::Nothing));
}

#[tokio::test]
async fn what_was_read_before_a_revocation_is_not_kept_by_a_worker_after_it() {
    let bench = Bench::new();
    bench.open_store();
    let recent = Recent::default();
    let facts = bench
        .verifier
        .verify(&bench.token, bench.clock.now())
        .await
        .unwrap()
        .unwrap();
    // A worker asked the shared cache in this epoch, and has not yet written down the answer …
    let epoch = bench.verifier.epoch.load(Ordering::SeqCst);
    // … when the token is revoked.
    bench.verifier.forget(&bench.token.hash);
    recent.keep(bench.token.hash, &facts, epoch);
    let verdict = bench
        .verifier
        .cached_through(&recent, &bench.claim, bench.clock.now());
    assert!(matches!(verdict, Verdict::Unsure));
}

#[tokio::test]
async fn a_workers_own_table_believes_nothing_longer_than_the_shared_cache() {
    let bench = Bench::new();
    bench.open_store();
    let recent = Recent::default();
    bench
        .verifier
        .verify(&bench.token, bench.clock.now())
        .await
        .unwrap();
    let ask = || {
        bench
            .verifier
            .cached_through(&recent, &bench.claim, bench.clock.now())
    };
    assert!(matches!(ask(), Verdict::Good(_)));
    bench
        .clock
        .advance(Settings::default().cache_ttl + Duration::from_millis(1));
    assert!(matches!(ask(), Verdict::Unsure));
    bench.clock.advance(LIFE);
    bench.verifier.heard(bench.clock.now());
    assert!(!matches!(ask(), Verdict::Good(_)), "it has expired");
}

#[tokio::test]
async fn who_looked_into_the_cache_just_before_a_lookup_ended_does_not_read_the_store_again() {
    let bench = Bench::new();
    bench.open_store();
    let now = bench.clock.now();
    assert!(matches!(
        bench.verifier.cached(&bench.token, now),
        Verdict::Unsure
    ));
    // Somebody else's lookup begins and ends meanwhile.
    bench.verifier.verify(&bench.token, now).await.unwrap();
    let found = bench.verifier.look_up(bench.token.hash).await.unwrap();
    assert!(found.is_some());
    assert_eq!(bench.store.read_count.load(Ordering::SeqCst), 1);

    bench.store.set(None);
    bench.verifier.forget(&bench.token.hash);
    bench.verifier.verify(&bench.token, now).await.unwrap();
    let found = bench.verifier.look_up(bench.token.hash).await.unwrap();
    assert!(found.is_none(), "what is known as unknown as well");
    assert_eq!(bench.store.read_count.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn what_the_store_no_longer_knows_is_not_good_again_when_the_feed_is_heard() {
    let bench = Bench::new();
    bench.open_store();
    let ask = async || {
        bench
            .verifier
            .verify(&bench.token, bench.clock.now())
            .await
            .unwrap()
    };
    assert!(ask().await.is_some());
    // Nothing is heard for longer than `cache_ttl`, and meanwhile the token goes.
    bench.store.set(None);
    bench
        .clock
        .advance(Settings::default().cache_ttl + Duration::from_millis(1));
    assert!(ask().await.is_none());
    bench.verifier.heard(bench.clock.now());
    assert!(ask().await.is_none());
    assert_eq!(
        bench.store.read_count.load(Ordering::SeqCst),
        2,
        "the answer no is kept"
    );
}
