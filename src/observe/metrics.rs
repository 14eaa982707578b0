//! Every metric, in one table with its meaning. Names by Prometheus' rules; no token, user or raw path is
//! ever a label.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

/// Labels of a series: names are fixed, values come from the configuration or a closed list.
type Labels = Vec<(&'static str, String)>;

/// One metric as the README's table tells it.
#[derive(Clone, Copy, Debug)]
pub struct Described {
    /// Its whole name as exported.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it counts.
    pub meaning: &'static str,
}

const fn described(
    name: &'static str,
    kind: &'static str,
    labels: &'static [&'static str],
    meaning: &'static str,
) -> Described {
    Described {
        name,
        kind,
        labels,
        meaning,
    }
}

/// Every metric there is.
pub const TABLE: [Described; 21] = [
    described(
        "sidegate_requests_total",
        "counter",
        &["route", "outcome"],
        "Requests by route and outcome: forwarded, own_endpoint, client_gone, or the word of the refusal",
    ),
    described(
        "sidegate_request_duration_seconds",
        "histogram",
        &["route"],
        "From the head of a request to the end of its answer, the backend included",
    ),
    described(
        "sidegate_upstream_duration_seconds",
        "histogram",
        &["route"],
        "From sending a request on to the head of the backend's answer",
    ),
    described(
        "sidegate_observed_refusals_total",
        "counter",
        &["error"],
        "Refusals that observe mode turned into forwarding",
    ),
    described(
        "sidegate_rate_limited_total",
        "counter",
        &["limit", "mode"],
        "Requests over a limit: refused (enforce) or only counted (shadow)",
    ),
    described(
        "sidegate_limit_keys",
        "gauge",
        &["limit"],
        "Keys a limit keeps apart",
    ),
    described(
        "sidegate_limit_overflows_total",
        "counter",
        &["limit"],
        "Requests whose new key had to share a bucket because all keys of the limit were live",
    ),
    described(
        "sidegate_token_lookups_total",
        "counter",
        &["result"],
        "Looks into the token cache: good, unknown (negative entry) or miss",
    ),
    described(
        "sidegate_cached_tokens",
        "gauge",
        &[],
        "Good tokens in the cache",
    ),
    described(
        "sidegate_store_reads_total",
        "counter",
        &["result"],
        "Token reads from the store: ok or failed",
    ),
    described(
        "sidegate_store_up",
        "gauge",
        &[],
        "1 while the store answers",
    ),
    described(
        "sidegate_tokens_issued_total",
        "counter",
        &[],
        "Tokens issued by the endpoints of this process",
    ),
    described(
        "sidegate_tokens_revoked_total",
        "counter",
        &[],
        "Tokens revoked by the endpoints of this process",
    ),
    described(
        "sidegate_connections",
        "gauge",
        &[],
        "Open client connections",
    ),
    described(
        "sidegate_connections_accepted_total",
        "counter",
        &[],
        "Client connections accepted",
    ),
    described(
        "sidegate_connections_closed_for_room_total",
        "counter",
        &[],
        "Idle connections closed because max_connections was reached",
    ),
    described(
        "sidegate_connections_refused_per_ip_total",
        "counter",
        &[],
        "Connections refused by max_connections_per_ip",
    ),
    described(
        "sidegate_log_lines_dropped_total",
        "counter",
        &[],
        "Log lines dropped because the log's reader is too slow",
    ),
    described(
        "sidegate_ready",
        "gauge",
        &[],
        "1 while /readyz answers 200",
    ),
    described(
        "sidegate_start_time_seconds",
        "gauge",
        &[],
        "When this process started, in seconds since the Unix epoch",
    ),
    described(
        "sidegate_build_info",
        "gauge",
        &["version"],
        "1, with the version as label",
    ),
];

/// From below a millisecond to a minute.
const BUCKETS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0,
];

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// What is counted elsewhere and read when metrics are rendered.
type Source = Box<dyn Fn(&Metrics) + Send + Sync>;

/// Looks into the token cache, by result.
pub struct TokenLookups {
    /// The token is good.
    pub good: Counter,
    /// It was known to be unknown.
    pub unknown: Counter,
    /// The store had to be asked.
    pub miss: Counter,
}

/// All metrics of this process.
pub struct Metrics {
    registry: Registry,
    requests: Family<Labels, Counter>,
    durations: Histograms,
    upstream_durations: Histograms,
    observed: Family<Labels, Counter>,
    rate_limited: Family<Labels, Counter>,
    limit_keys: Family<Labels, Gauge>,
    limit_overflows: Family<Labels, Counter>,
    /// Looks into the token cache.
    pub token_lookups: TokenLookups,
    /// Good tokens in the cache.
    pub cached_tokens: Gauge,
    store_reads: Family<Labels, Counter>,
    store_up: Gauge,
    /// Tokens issued.
    pub tokens_issued: Counter,
    /// Tokens revoked.
    pub tokens_revoked: Counter,
    /// Open client connections.
    pub connections: Gauge,
    /// Client connections accepted.
    pub connections_accepted: Counter,
    /// Idle connections closed for room.
    pub connections_closed_for_room: Counter,
    /// Connections refused by the bound for one address.
    pub connections_refused_per_ip: Counter,
    /// Log lines dropped.
    pub lines_dropped: Counter,
    /// Whether `/readyz` answers 200.
    pub ready: Gauge,
    sources: Mutex<Vec<Source>>,
}

/// Registers under the description of the table.
fn register<M: Metric + Clone>(registry: &mut Registry, name: &str, metric: M) -> M {
    let meaning = TABLE
        .iter()
        .find(|described| described.name == name)
        .map_or("", |described| described.meaning);
    // The library appends `_total` itself.
    let name = name.strip_suffix("_total").unwrap_or(name);
    registry.register(name, meaning, metric.clone());
    metric
}

fn labels<const N: usize>(pairs: [(&'static str, &str); N]) -> Labels {
    pairs.map(|(name, value)| (name, value.to_owned())).into()
}

impl Metrics {
    /// All metrics at zero.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let mut registry = Registry::default();
        let r = &mut registry;
        let requests = register(r, "sidegate_requests_total", Family::default());
        let durations = Histograms::new_with_constructor(histogram);
        let durations = register(r, "sidegate_request_duration_seconds", durations);
        let upstream_durations = Histograms::new_with_constructor(histogram);
        let upstream_durations =
            register(r, "sidegate_upstream_duration_seconds", upstream_durations);
        let observed = register(r, "sidegate_observed_refusals_total", Family::default());
        let rate_limited = register(r, "sidegate_rate_limited_total", Family::default());
        let limit_keys = register(r, "sidegate_limit_keys", Family::default());
        let limit_overflows = register(r, "sidegate_limit_overflows_total", Family::default());
        let lookups: Family<Labels, Counter> =
            register(r, "sidegate_token_lookups_total", Family::default());
        let lookup = |result| lookups.get_or_create(&labels([("result", result)])).clone();
        let token_lookups = TokenLookups {
            good: lookup("good"),
            unknown: lookup("unknown"),
            miss: lookup("miss"),
        };
        let cached_tokens = register(r, "sidegate_cached_tokens", Gauge::default());
        let store_reads = register(r, "sidegate_store_reads_total", Family::default());
        let store_up = register(r, "sidegate_store_up", Gauge::default());
        let tokens_issued = register(r, "sidegate_tokens_issued_total", Counter::default());
        let tokens_revoked = register(r, "sidegate_tokens_revoked_total", Counter::default());
        let connections = register(r, "sidegate_connections", Gauge::default());
        let connections_accepted =
            register(r, "sidegate_connections_accepted_total", Counter::default());
        let connections_closed_for_room = register(
            r,
            "sidegate_connections_closed_for_room_total",
            Counter::default(),
        );
        let connections_refused_per_ip = register(
            r,
            "sidegate_connections_refused_per_ip_total",
            Counter::default(),
        );
        let lines_dropped = register(r, "sidegate_log_lines_dropped_total", Counter::default());
        let ready = register(r, "sidegate_ready", Gauge::default());
        let started = register(
            r,
            "sidegate_start_time_seconds",
            Gauge::<f64, AtomicU64>::default(),
        );
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        started.set(now.map_or(0.0, |since| since.as_secs_f64()));
        let build: Family<Labels, Gauge> = register(r, "sidegate_build_info", Family::default());
        build
            .get_or_create(&labels([("version", env!("CARGO_PKG_VERSION"))]))
            .set(1);
        Arc::new(Self {
            registry,
            requests,
            durations,
            upstream_durations,
            observed,
            rate_limited,
            limit_keys,
            limit_overflows,
            token_lookups,
            cached_tokens,
            store_reads,
            store_up,
            tokens_issued,
            tokens_revoked,
            connections,
            connections_accepted,
            connections_closed_for_room,
            connections_refused_per_ip,
            lines_dropped,
            ready,
            sources: Mutex::default(),
        })
    }

    /// The handles of one route, resolved once so that counting a request is adding to atomics.
    #[must_use]
    pub fn route(&self, name: &str) -> RouteMetrics {
        let route = labels([("route", name)]);
        RouteMetrics {
            name: Arc::from(name),
            forwarded: self
                .requests
                .get_or_create(&labels([("route", name), ("outcome", "forwarded")]))
                .clone(),
            requests: self.requests.clone(),
            duration: self.durations.get_or_create(&route).clone(),
            upstream: self.upstream_durations.get_or_create(&route).clone(),
        }
    }

    /// Counts a refusal that observe mode turned into forwarding.
    pub fn observed(&self, word: &str) {
        self.observed
            .get_or_create(&labels([("error", word)]))
            .inc();
    }

    /// Counts a request over a limit; `mode` is `enforce` or `shadow`.
    pub fn rate_limited(&self, limit: &str, mode: &str) {
        self.rate_limited
            .get_or_create(&labels([("limit", limit), ("mode", mode)]))
            .inc();
    }

    /// Says how many keys a limit keeps apart, and how often a key had to share a bucket so far.
    pub fn limit_size(&self, limit: &str, keys: usize, overflowed: u64) {
        let label = labels([("limit", limit)]);
        let keys = i64::try_from(keys).unwrap_or(i64::MAX);
        self.limit_keys.get_or_create(&label).set(keys);
        raise(&*self.limit_overflows.get_or_create(&label), overflowed);
    }

    /// Counts a token read from the store.
    pub fn store_read(&self, ok: bool) {
        let result = if ok { "ok" } else { "failed" };
        self.store_reads
            .get_or_create(&labels([("result", result)]))
            .inc();
    }

    /// Says whether the store answers.
    pub fn store_is_up(&self, up: bool) {
        self.store_up.set(i64::from(up));
    }

    /// Asks `source` each time before metrics are rendered.
    pub fn ask(&self, source: impl Fn(&Self) + Send + Sync + 'static) {
        self.sources
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Box::new(source));
    }

    /// All metrics in Prometheus' text form.
    #[must_use]
    pub fn render(&self) -> String {
        for source in &*self.sources.lock().unwrap_or_else(PoisonError::into_inner) {
            source(self);
        }
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// Brings a counter up to a total that is counted elsewhere.
pub fn raise(counter: &Counter, total: u64) {
    let missing = total.saturating_sub(counter.get());
    counter.inner().fetch_add(missing, Ordering::Relaxed);
}

/// The handles of one route.
#[derive(Clone)]
pub struct RouteMetrics {
    name: Arc<str>,
    forwarded: Counter,
    requests: Family<Labels, Counter>,
    duration: Histogram,
    upstream: Histogram,
}

impl RouteMetrics {
    /// Counts a request that a backend answered.
    pub fn forwarded(&self) {
        self.forwarded.inc();
    }

    /// Counts one that ended otherwise.
    pub fn ended(&self, outcome: &str) {
        self.requests
            .get_or_create(&labels([("route", &self.name), ("outcome", outcome)]))
            .inc();
    }

    /// Notes how long a request took, and how long its backend.
    pub fn took(&self, whole: Duration, upstream: Option<Duration>) {
        self.duration.observe(whole.as_secs_f64());
        if let Some(upstream) = upstream {
            self.upstream.observe(upstream.as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every metric with a sample.
    fn exported() -> String {
        let metrics = Metrics::new();
        let route = metrics.route("/");
        route.forwarded();
        route.ended("missing_token");
        route.took(Duration::from_millis(3), Some(Duration::from_millis(2)));
        metrics.observed("missing_token");
        metrics.rate_limited("per-client", "shadow");
        metrics.limit_size("per-client", 3, 4);
        metrics.store_read(true);
        metrics.render()
    }

    #[test]
    fn the_table_and_what_is_exported_are_the_same() {
        let text = exported();
        let mut typed: Vec<(String, String)> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
            .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
            .collect();
        let mut table: Vec<_> = TABLE
            .iter()
            .map(|one| {
                let name = one.name.strip_suffix("_total").unwrap_or(one.name);
                (name.to_owned(), one.kind.to_owned())
            })
            .collect();
        typed.sort();
        table.sort();
        assert_eq!(typed, table);
        for one in TABLE {
            let is_sample = |line: &&str| {
                let rest = line.strip_prefix(one.name);
                rest.is_some_and(|rest| rest.starts_with(['{', ' ', '_']))
            };
            let sample = text.lines().find(is_sample);
            let sample = sample.unwrap_or_else(|| panic!("no sample of {}", one.name));
            for label in one.labels {
                assert!(
                    sample.contains(&format!("{label}=\"")),
                    "{sample} lacks {label}"
                );
            }
        }
    }

    #[test]
    fn names_follow_the_rules_of_prometheus() {
        for one in TABLE {
            assert!(one.name.starts_with("sidegate_"), "{}", one.name);
            assert_eq!(
                one.kind == "counter",
                one.name.ends_with("_total"),
                "{}",
                one.name
            );
            assert_eq!(
                one.kind == "histogram",
                one.name.ends_with("_duration_seconds"),
                "{}",
                one.name
            );
        }
    }

    #[test]
    fn a_counter_counted_elsewhere_never_goes_back() {
        let counter = Counter::default();
        raise(&counter, 5);
        raise(&counter, 3);
        raise(&counter, 9);
        assert_eq!(counter.get(), 9);
    }

    #[test]
    fn sources_are_asked_before_rendering() {
        let metrics = Metrics::new();
        metrics.ask(|metrics| {
            metrics.connections.set(12);
        });
        assert!(metrics.render().contains("\nsidegate_connections 12\n"));
    }
}
