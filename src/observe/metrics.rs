//! Every metric, with its meaning in one table. Handles are resolved ahead, so that counting on a
//! request's path is one atomic addition. No token, user, address or raw path is ever a label.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet, prometheus_text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Metric, Registry};

use crate::refusal::Word;

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// The route label of requests that belong to none.
pub const NO_ROUTE: &str = "-";

/// What one metric is.
#[derive(Clone, Copy, Debug)]
pub struct Meaning {
    /// Its name as it is exported.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub help: &'static str,
}

const fn metric(
    name: &'static str,
    kind: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Meaning {
    Meaning {
        name,
        kind,
        labels,
        help,
    }
}

/// Every metric there is.
#[rustfmt::skip]
pub const TABLE: &[Meaning] = &[
    metric("sidegate_build_info", "gauge", &["version"], "Always 1; the version of this program"),
    metric("sidegate_ready", "gauge", &[], "1 while /readyz answers 200"),
    metric("sidegate_draining", "gauge", &[], "1 while it winds down"),
    metric("sidegate_requests_total", "counter", &["route", "outcome"], "Requests by route and by outcome: forwarded, own_endpoint, client_gone (it left, or drain_timeout cut it off, before an answer), or the error word of the refusal"),
    metric("sidegate_request_duration_seconds", "histogram", &["route"], "Time from a request's head to the end of its answer, the backend's share included"),
    metric("sidegate_upstream_duration_seconds", "histogram", &["route"], "Time from a request sent to the backend to the head of its answer"),
    metric("sidegate_observed_refusals_total", "counter", &["error"], "Refusals that observe mode turned into forwarding"),
    metric("sidegate_rate_limited_total", "counter", &["limit", "mode"], "Requests over a limit: refused (enforce) or only counted (shadow)"),
    metric("sidegate_limit_keys", "gauge", &["limit"], "Keys that a limit keeps apart"),
    metric("sidegate_limit_keys_shared_total", "counter", &["limit"], "Times that a new key had to share a bucket because max_keys was reached"),
    metric("sidegate_token_lookups_total", "counter", &["result"], "Lookups in the token cache: hit, negative_hit or miss"),
    metric("sidegate_cached_tokens", "gauge", &[], "Good tokens in the cache"),
    metric("sidegate_store_reads_total", "counter", &["result"], "Reads of the token store: ok or error"),
    metric("sidegate_store_up", "gauge", &[], "1 while the store answers"),
    metric("sidegate_tokens_issued_total", "counter", &[], "Tokens issued by this process"),
    metric("sidegate_tokens_revoked_total", "counter", &[], "Tokens revoked by this process"),
    metric("sidegate_connections", "gauge", &[], "Open client connections"),
    metric("sidegate_connections_accepted_total", "counter", &[], "Client connections accepted"),
    metric("sidegate_connections_closed_for_room_total", "counter", &[], "Idle client connections closed to make room at max_connections"),
    metric("sidegate_connections_refused_per_ip_total", "counter", &[], "Client connections refused by max_connections_per_ip"),
    metric("sidegate_log_lines_dropped_total", "counter", &[], "Log lines dropped because they could not be written in time"),
];

type Labels<const N: usize> = [(&'static str, Arc<str>); N];
type Source = Box<dyn Fn(&Metrics) + Send + Sync>;

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    sources: Mutex<Vec<Source>>,
    requests: Family<Labels<2>, Counter>,
    request_duration: Family<Labels<1>, Latency>,
    upstream_duration: Family<Labels<1>, Latency>,
    rate_limited: Family<Labels<2>, Counter>,
    limit_keys: Family<Labels<1>, Gauge>,
    limit_keys_shared: Family<Labels<1>, Counter>,
    observed: Family<Labels<1>, Counter>,
    observed_words: [OnceLock<Counter>; Word::ALL.len()],
    /// Whether `/readyz` answers 200.
    pub ready: Gauge,
    /// Whether it winds down.
    pub draining: Gauge,
    /// Lookups in the token cache.
    pub token_lookups: TokenLookups,
    /// Good tokens in the cache.
    pub cached_tokens: Gauge,
    /// Reads of the token store that were answered.
    pub store_reads_ok: Counter,
    /// Reads of the token store that failed.
    pub store_reads_failed: Counter,
    /// Whether the store answers.
    pub store_up: Gauge,
    /// Tokens issued.
    pub tokens_issued: Counter,
    /// Tokens revoked.
    pub tokens_revoked: Counter,
    /// Open client connections.
    pub connections: Gauge,
    /// Client connections accepted.
    pub connections_accepted: Counter,
    /// Idle connections closed to make room.
    pub connections_closed_for_room: Counter,
    /// Connections refused by the bound for one address.
    pub connections_refused_per_ip: Counter,
    /// Log lines dropped.
    pub log_lines_dropped: Counter,
}

/// Counters of the token cache.
pub struct TokenLookups {
    /// Known as good.
    pub hit: Counter,
    /// Known as unknown.
    pub negative_hit: Counter,
    /// The store had to be asked.
    pub miss: Counter,
}

/// The counters of one route, resolved when the rules are built. Cheap to clone.
#[derive(Clone)]
pub struct RouteMetrics(Arc<OfRoute>);

struct OfRoute {
    route: Arc<str>,
    requests: Family<Labels<2>, Counter>,
    forwarded: Counter,
    own_endpoint: OnceLock<Counter>,
    client_gone: OnceLock<Counter>,
    /// Made when first needed: most routes never see most words.
    refused: [OnceLock<Counter>; Word::ALL.len()],
    request_duration: Latency,
    upstream_duration: Latency,
}

impl RouteMetrics {
    /// A request that was forwarded.
    pub fn forwarded(&self) {
        self.0.forwarded.inc();
    }

    /// A request that was refused.
    pub fn refused(&self, word: Word) {
        self.count(&self.0.refused[word as usize], word.as_str());
    }

    /// A request that one of Sidegate's own endpoints answered.
    pub fn own_endpoint(&self) {
        self.count(&self.0.own_endpoint, "own_endpoint");
    }

    /// A request whose client left before there was an answer.
    pub fn client_gone(&self) {
        self.count(&self.0.client_gone, "client_gone");
    }

    /// How long a whole request took, and the backend's share of it if there was one.
    pub fn took(&self, whole: Duration, upstream: Option<Duration>) {
        self.0.request_duration.observe(whole);
        if let Some(upstream) = upstream {
            self.0.upstream_duration.observe(upstream);
        }
    }

    fn count(&self, handle: &OnceLock<Counter>, outcome: &'static str) {
        let make = || outcome_of(&self.0.requests, &self.0.route, outcome);
        handle.get_or_init(make).inc();
    }
}

fn outcome_of(
    requests: &Family<Labels<2>, Counter>,
    route: &Arc<str>,
    outcome: &'static str,
) -> Counter {
    let labels = [("route", Arc::clone(route)), ("outcome", outcome.into())];
    requests.get_or_create_owned(&labels)
}

impl Metrics {
    /// All metrics at zero.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let mut table = Table(Registry::default());
        let version: Labels<1> = [("version", env!("CARGO_PKG_VERSION").into())];
        table.add("sidegate_build_info", Info::new(version));
        let lookups: Family<Labels<1>, Counter> = table.add_default("sidegate_token_lookups_total");
        let reads: Family<Labels<1>, Counter> = table.add_default("sidegate_store_reads_total");
        let result = |family: &Family<Labels<1>, Counter>, result: &str| {
            family.get_or_create_owned(&[("result", result.into())])
        };
        Arc::new(Self {
            sources: Mutex::default(),
            requests: table.add_default("sidegate_requests_total"),
            request_duration: table.add_default("sidegate_request_duration_seconds"),
            upstream_duration: table.add_default("sidegate_upstream_duration_seconds"),
            rate_limited: table.add_default("sidegate_rate_limited_total"),
            limit_keys: table.add_default("sidegate_limit_keys"),
            limit_keys_shared: table.add_default("sidegate_limit_keys_shared_total"),
            observed: table.add_default("sidegate_observed_refusals_total"),
            observed_words: Default::default(),
            ready: table.add_default("sidegate_ready"),
            draining: table.add_default("sidegate_draining"),
            token_lookups: TokenLookups {
                hit: result(&lookups, "hit"),
                negative_hit: result(&lookups, "negative_hit"),
                miss: result(&lookups, "miss"),
            },
            cached_tokens: table.add_default("sidegate_cached_tokens"),
            store_reads_ok: result(&reads, "ok"),
            store_reads_failed: result(&reads, "error"),
            store_up: table.add_default("sidegate_store_up"),
            tokens_issued: table.add_default("sidegate_tokens_issued_total"),
            tokens_revoked: table.add_default("sidegate_tokens_revoked_total"),
            connections: table.add_default("sidegate_connections"),
            connections_accepted: table.add_default("sidegate_connections_accepted_total"),
            connections_closed_for_room: table
                .add_default("sidegate_connections_closed_for_room_total"),
            connections_refused_per_ip: table
                .add_default("sidegate_connections_refused_per_ip_total"),
            log_lines_dropped: table.add_default("sidegate_log_lines_dropped_total"),
            registry: table.0,
        })
    }

    /// `source` is called before each scrape, to set what others own.
    pub fn at_scrape(&self, source: impl Fn(&Self) + Send + Sync + 'static) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.push(Box::new(source));
    }

    /// All metrics in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        for source in sources.iter() {
            source(self);
        }
        drop(sources);
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = prometheus_text::encode(&mut text, &self.registry);
        text
    }

    /// The counters of one route.
    #[must_use]
    pub fn route(&self, name: &str) -> RouteMetrics {
        let route: Arc<str> = name.into();
        let labels = [("route", Arc::clone(&route))];
        RouteMetrics(Arc::new(OfRoute {
            forwarded: outcome_of(&self.requests, &route, "forwarded"),
            own_endpoint: OnceLock::new(),
            client_gone: OnceLock::new(),
            refused: Default::default(),
            requests: self.requests.clone(),
            request_duration: self.request_duration.get_or_create_owned(&labels),
            upstream_duration: self.upstream_duration.get_or_create_owned(&labels),
            route,
        }))
    }

    /// A request over the limit of this name; `shadow` if it was only counted.
    pub fn rate_limited(&self, limit: &str, shadow: bool) {
        let mode = if shadow { "shadow" } else { "enforce" };
        let labels = [("limit", limit.into()), ("mode", mode.into())];
        self.rate_limited.get_or_create(&labels).inc();
    }

    /// A refusal that observe mode turned into forwarding.
    pub fn observed(&self, word: Word) {
        let make = || {
            self.observed
                .get_or_create_owned(&[("error", word.as_str().into())])
        };
        self.observed_words[word as usize].get_or_init(make).inc();
    }

    /// How many keys a limit keeps apart, and how often keys had to share.
    pub fn limit_size(&self, limit: &str, keys: usize, shared: u64) {
        let labels = [("limit", limit.into())];
        let keys = i64::try_from(keys).unwrap_or(i64::MAX);
        self.limit_keys.get_or_create(&labels).set(keys);
        set_counter(&self.limit_keys_shared.get_or_create(&labels), shared);
    }
}

/// Sets a counter that somebody else counts.
pub fn set_counter(counter: &Counter, value: u64) {
    counter.inner().store(value, Ordering::Relaxed);
}

/// Registers metrics under the names and meanings of [`TABLE`].
struct Table(Registry);

impl Table {
    fn add_default<M: Metric + Default + Clone>(&mut self, name: &'static str) -> M {
        let metric = M::default();
        self.add(name, metric.clone());
        metric
    }

    fn add(&mut self, name: &'static str, metric: impl Metric) {
        let meaning = TABLE.iter().find(|meaning| meaning.name == name);
        let help = meaning.map_or("", |meaning| meaning.help);
        // The encoder appends what the type demands.
        let suffix = match EncodeMetric::metric_type(&metric) {
            MetricType::Counter => "_total",
            MetricType::Info => "_info",
            _ => "",
        };
        let stem = name.strip_suffix(suffix).unwrap_or(name);
        self.0.register(stem, help, metric);
    }
}

/// Upper bounds of the latency buckets in microseconds: half a millisecond to a minute.
const BOUNDS_MICROS: [u64; 16] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// A histogram of durations made of atomics: prometheus-client's own takes a lock for each value.
#[derive(Clone, Debug, Default)]
struct Latency(Arc<Buckets>);

#[derive(Debug, Default)]
struct Buckets {
    counts: [AtomicU64; BOUNDS_MICROS.len() + 1],
    sum_nanos: AtomicU64,
}

impl Latency {
    fn observe(&self, span: Duration) {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_MICROS.partition_point(|bound| bound * 1000 < nanos);
        self.0.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.0.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}

impl TypedMetric for Latency {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Latency {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let bounds = BOUNDS_MICROS.iter().map(|micros| *micros as f64 / 1e6);
        let counts = self.0.counts.iter().map(|n| n.load(Ordering::Relaxed));
        let buckets: Vec<_> = bounds.chain([f64::INFINITY]).zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = self.0.sum_nanos.load(Ordering::Relaxed) as f64 / 1e9;
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// One sample of everything.
    fn touched() -> Arc<Metrics> {
        let metrics = Metrics::new();
        metrics.rate_limited("per-client", true);
        metrics.limit_size("per-client", 3, 4);
        metrics.observed(Word::InvalidSudo);
        metrics.route("/").forwarded();
        metrics
    }

    #[test]
    fn the_table_is_what_is_exported() {
        let text = touched().render();
        let mut exported: BTreeMap<&str, (&str, BTreeSet<&str>)> = BTreeMap::new();
        let mut current = "";
        for line in text.lines() {
            if let Some(typed) = line.strip_prefix("# TYPE ") {
                let (name, kind) = typed.split_once(' ').unwrap();
                current = name;
                exported.insert(name, (kind, BTreeSet::new()));
            } else if let Some(help) = line.strip_prefix("# HELP ") {
                assert!(help.split_once(' ').unwrap().1.len() > 10, "{help}");
            } else if let Some((_, labels)) = line.split_once('{') {
                let labels = labels.rsplit_once('}').unwrap().0;
                let names = labels
                    .split(',')
                    .map(|label| label.split('=').next().unwrap());
                exported
                    .get_mut(current)
                    .unwrap()
                    .1
                    .extend(names.filter(|name| *name != "le"));
            }
        }
        let expected = TABLE.iter().map(|one| {
            let labels = one.labels.iter().copied().collect::<BTreeSet<_>>();
            (one.name, (one.kind, labels))
        });
        assert_eq!(exported, expected.collect());
    }

    #[test]
    fn words_stand_where_their_number_says() {
        for (at, word) in Word::ALL.into_iter().enumerate() {
            assert_eq!(word as usize, at);
        }
    }

    #[test]
    fn requests_count_by_route_and_outcome() {
        let metrics = Metrics::new();
        let route = metrics.route("api \"x\"");
        route.forwarded();
        route.refused(Word::InvalidToken);
        metrics.route("api \"x\"").refused(Word::InvalidToken);
        metrics.route(NO_ROUTE).own_endpoint();
        let text = metrics.render();
        for line in [
            r#"sidegate_requests_total{route="api \"x\"",outcome="forwarded"} 1"#,
            r#"sidegate_requests_total{route="api \"x\"",outcome="invalid_token"} 2"#,
            r#"sidegate_requests_total{route="-",outcome="own_endpoint"} 1"#,
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(
            !text.contains("no_route"),
            "words never seen are not exported"
        );
    }

    #[test]
    fn a_latency_falls_into_its_bucket() {
        let metrics = Metrics::new();
        let route = metrics.route("/");
        route.took(Duration::from_micros(500), None);
        route.took(Duration::from_micros(501), Some(Duration::from_secs(61)));
        let text = metrics.render();
        for line in [
            r#"sidegate_request_duration_seconds_bucket{route="/",le="0.0005"} 1"#,
            r#"sidegate_request_duration_seconds_bucket{route="/",le="0.001"} 2"#,
            r#"sidegate_request_duration_seconds_bucket{route="/",le="+Inf"} 2"#,
            r#"sidegate_request_duration_seconds_count{route="/"} 2"#,
            r#"sidegate_upstream_duration_seconds_bucket{route="/",le="60"} 0"#,
            r#"sidegate_upstream_duration_seconds_sum{route="/"} 61"#,
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    #[test]
    fn what_others_own_is_set_at_each_scrape() {
        let metrics = Metrics::new();
        metrics.at_scrape(|metrics| {
            metrics.cached_tokens.set(7);
            set_counter(&metrics.log_lines_dropped, 9);
        });
        let text = metrics.render();
        assert!(text.contains("\nsidegate_cached_tokens 7\n"));
        assert!(text.contains("\nsidegate_log_lines_dropped_total 9\n"));
    }
}
