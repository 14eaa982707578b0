//! One limit, and all limits that apply to a request: all must pass, and a refusal by one takes
//! nothing from another.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use governor::middleware::StateInformationMiddleware;
use governor::{Quota, RateLimiter};

use super::buckets::{BucketKey, Buckets, RequestClock};
use super::{FAILED_CREDENTIALS, KeyPart, Mode, Settings};
use crate::base::clock::Now;

/// What the parts of a key are in one request. A part that is missing is `-`, one bucket for all
/// requests that lack it.
#[derive(Clone, Copy, Debug)]
pub struct KeyValues<'a> {
    /// Client id.
    pub client: &'a str,
    /// Public number of the token.
    pub token: Option<i64>,
    /// Address of the peer, or the one that a trusted proxy names.
    pub ip: IpAddr,
    /// User of the sudo parameter as `kind:value`.
    pub user: &'a str,
    /// Tenant as `id:value` or `code:value`.
    pub tenant: &'a str,
    /// Name of the route.
    pub route: &'a str,
}

/// The part that a request lacks.
pub const MISSING: &str = "-";

impl KeyValues<'_> {
    /// A key of which only the address is known.
    #[must_use]
    pub fn of_ip(ip: IpAddr) -> Self {
        Self {
            client: MISSING,
            token: None,
            ip,
            user: MISSING,
            tenant: MISSING,
            route: MISSING,
        }
    }
}

type Limiter = RateLimiter<BucketKey, Buckets, RequestClock, StateInformationMiddleware>;

/// One limit with what its keys have spent.
pub struct Limit {
    settings: Settings,
    limiter: Limiter,
    buckets: Buckets,
    /// What one request costs, as time.
    cell: Duration,
}

/// What a limit took for a request that passed it.
#[derive(Clone)]
pub struct Spent {
    limit: Arc<Limit>,
    /// Cells left.
    pub remaining: u32,
    /// A shadow limit that would have refused.
    pub over: bool,
    key: BucketKey,
}

/// The limit that refused a request.
#[derive(Clone)]
pub struct Exceeded {
    limit: Arc<Limit>,
    /// How long until a request of this key can pass.
    pub retry_after: Duration,
}

impl Exceeded {
    /// The limit.
    #[must_use]
    pub fn limit(&self) -> &Arc<Limit> {
        &self.limit
    }
}

impl Spent {
    /// The limit.
    #[must_use]
    pub fn limit(&self) -> &Arc<Limit> {
        &self.limit
    }

    /// How long until the next cell where none is left, else until the bucket is full.
    #[must_use]
    pub fn until_more(&self) -> Duration {
        let missing = match self.remaining {
            0 => 1,
            left => self.limit.settings.burst.get().saturating_sub(left),
        };
        self.limit.cell.saturating_mul(missing)
    }
}

impl Limit {
    fn new(settings: Settings, buckets: Option<Buckets>) -> Self {
        let buckets = buckets.unwrap_or_else(|| Buckets::new(settings.max_keys));
        let cell = (settings.rate.period / settings.rate.count.get()).max(Duration::from_nanos(1));
        let quota = Quota::with_period(cell)
            .unwrap_or(Quota::per_second(settings.rate.count))
            .allow_burst(settings.burst);
        RequestClock::set(0); // the limiter's own zero is the process's
        let limiter = Limiter::new(quota, buckets.clone(), RequestClock);
        Self {
            settings,
            limiter,
            buckets,
            cell,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Refuse or only count.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.settings.mode
    }

    /// What it was made of.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The more a key tells apart, the narrower; narrow limits are asked first, so that one noisy
    /// caller does not spend everybody's budget.
    fn width(&self) -> u32 {
        let narrowness = |part: &KeyPart| match part {
            KeyPart::Token => 64,
            KeyPart::User => 32,
            KeyPart::Client => 16,
            KeyPart::Ip => 8,
            KeyPart::Tenant => 4,
            KeyPart::Route => 2,
            KeyPart::Global => 0,
        };
        u32::MAX - self.settings.key.iter().map(narrowness).sum::<u32>()
    }

    fn key(&self, values: &KeyValues<'_>, random: &RandomState) -> BucketKey {
        let mut hasher = random.build_hasher();
        for part in &self.settings.key {
            match part {
                KeyPart::Client => write_text(&mut hasher, 1, values.client),
                KeyPart::Token => match values.token {
                    Some(id) => {
                        hasher.write_u8(2);
                        hasher.write_i64(id);
                    }
                    None => write_text(&mut hasher, 3, MISSING),
                },
                KeyPart::Ip => {
                    hasher.write_u8(4);
                    hasher.write_u128(network(values.ip));
                }
                KeyPart::User => write_text(&mut hasher, 5, values.user),
                KeyPart::Tenant => write_text(&mut hasher, 6, values.tenant),
                KeyPart::Route => write_text(&mut hasher, 7, values.route),
                KeyPart::Global => hasher.write_u8(8),
            }
        }
        BucketKey(hasher.finish())
    }

    /// Takes one cell; `Err` says how long to wait for one. The request's instant must be set.
    fn take(&self, key: BucketKey) -> Result<u32, Duration> {
        use governor::clock::Clock;
        self.limiter
            .check_key(&key)
            .map(|state| state.remaining_burst_capacity())
            .map_err(|until| until.wait_time_from(RequestClock.now()))
    }
}

/// Length before text, so that no two lists of parts hash the same bytes.
fn write_text(hasher: &mut impl Hasher, tag: u8, text: &str) {
    hasher.write_u8(tag);
    hasher.write_usize(text.len());
    hasher.write(text.as_bytes());
}

/// What counts as one address: an IPv4 address, or the /64 of an IPv6 one.
fn network(ip: IpAddr) -> u128 {
    match ip.to_canonical() {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6) & !u128::from(u64::MAX) | (1 << 63),
    }
}

/// All limits of a configuration.
pub struct Limits {
    by_name: HashMap<String, Arc<Limit>>,
    failed_credentials: Arc<Limit>,
    random: RandomState,
}

impl Limits {
    /// The limits of `settings`; `failed-credentials` is added where it is not among them. Buckets of
    /// `before` with the same name and key are kept with what they have spent.
    #[must_use]
    pub fn new(settings: &[Settings], before: Option<&Self>) -> Self {
        let random = before.map_or_else(RandomState::new, |before| before.random.clone());
        let kept = |settings: &Settings| {
            let old = before?.by_name.get(&settings.name)?;
            let same =
                old.settings.key == settings.key && old.settings.max_keys == settings.max_keys;
            same.then(|| old.buckets.clone())
        };
        let make = |settings: &Settings| Arc::new(Limit::new(settings.clone(), kept(settings)));
        let mut by_name: HashMap<_, _> = settings
            .iter()
            .map(|one| (one.name.clone(), make(one)))
            .collect();
        let failed_credentials = by_name
            .entry(FAILED_CREDENTIALS.to_owned())
            .or_insert_with(|| make(&Settings::failed_credentials()));
        let failed_credentials = Arc::clone(failed_credentials);
        Self {
            by_name,
            failed_credentials,
            random,
        }
    }

    /// The limit of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Limit>> {
        self.by_name.get(name)
    }

    /// The limits of these names, each once, the narrowest first; names that are not there are left out.
    #[must_use]
    pub fn named<'a>(&self, names: impl IntoIterator<Item = &'a String>) -> Vec<Arc<Limit>> {
        let mut limits: Vec<Arc<Limit>> = Vec::new();
        for limit in names.into_iter().filter_map(|name| self.by_name.get(name)) {
            if !limits.iter().any(|other| Arc::ptr_eq(other, limit)) {
                limits.push(Arc::clone(limit));
            }
        }
        limits.sort_by_key(|limit| limit.width());
        limits
    }

    /// Takes one cell from each of `limits`, or from none of them.
    ///
    /// # Errors
    /// The first enforced limit that has none left.
    pub fn take(
        &self,
        limits: &[Arc<Limit>],
        values: &KeyValues<'_>,
        now: Now,
    ) -> Result<Vec<Spent>, Exceeded> {
        let mut spent: Vec<Spent> = Vec::with_capacity(limits.len());
        RequestClock::set(now.mono_nanos);
        for limit in limits {
            let key = limit.key(values, &self.random);
            match limit.take(key) {
                Ok(remaining) => {
                    spent.push(Spent {
                        limit: Arc::clone(limit),
                        remaining,
                        over: false,
                        key,
                    });
                }
                Err(_) if limit.settings.mode == Mode::Shadow => {
                    spent.push(Spent {
                        limit: Arc::clone(limit),
                        remaining: 0,
                        over: true,
                        key,
                    });
                }
                Err(retry_after) => {
                    give_back(&spent, now);
                    return Err(Exceeded {
                        limit: Arc::clone(limit),
                        retry_after,
                    });
                }
            }
        }
        Ok(spent)
    }

    /// What [`take`](Self::take) would say, taking nothing: for explaining a request.
    ///
    /// # Errors
    /// As there.
    pub fn peek(
        &self,
        limits: &[Arc<Limit>],
        values: &KeyValues<'_>,
        now: Now,
    ) -> Result<Vec<Spent>, Exceeded> {
        let spent = self.take(limits, values, now)?;
        give_back(&spent, now);
        Ok(spent)
    }

    /// Counts one credential that failed for `ip`. Gives what it took only where the limit is in shadow
    /// mode and would have refused.
    ///
    /// # Errors
    /// When the limit `failed-credentials` is exceeded: the failure is then answered with 429.
    pub fn failed_credential(&self, ip: IpAddr, now: Now) -> Result<Option<Spent>, Exceeded> {
        let limit = std::slice::from_ref(&self.failed_credentials);
        let spent = self.take(limit, &KeyValues::of_ip(ip), now)?;
        Ok(spent.into_iter().find(|one| one.over))
    }

    /// Forgets keys that have nothing spent any more; to be called now and then.
    pub fn sweep(&self, now: Now) {
        for limit in self.by_name.values() {
            limit.buckets.sweep(now.mono_nanos);
        }
    }

    /// For each limit its name, how many keys it keeps apart, and how often keys had to share.
    pub fn sizes(&self) -> impl Iterator<Item = (&str, usize, u64)> {
        self.by_name.values().map(|limit| {
            let (keys, overflowed) = limit.buckets.size();
            (limit.name(), keys, overflowed)
        })
    }
}

fn give_back(spent: &[Spent], now: Now) {
    for one in spent.iter().filter(|one| !one.over) {
        let cell = u64::try_from(one.limit.cell.as_nanos()).unwrap_or(u64::MAX);
        one.limit.buckets.refund(one.key, cell, now.mono_nanos);
    }
}

#[cfg(test)]
#[path = "tests/limit.rs"]
mod tests;
