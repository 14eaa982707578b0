//! What the verifier does, as metrics and log lines.

use std::sync::Arc;

use crate::observe::Metrics;
use crate::tokens::verify::{Verdict, Watcher};

/// The verifier's doings as metrics and log lines.
pub(super) struct Counted(pub(super) Arc<Metrics>);

impl Watcher for Counted {
    fn looked_up(&self, verdict: &Verdict) {
        match verdict {
            Verdict::Good(_) => self.0.token_lookups.hit.inc(),
            Verdict::Bad => self.0.token_lookups.negative_hit.inc(),
            Verdict::Unsure => self.0.token_lookups.miss.inc(),
        };
    }

    fn store_read(&self, ok: bool) {
        if ok {
            self.0.store_reads_ok.inc();
        } else {
            self.0.store_reads_failed.inc();
        }
    }

    fn store_is_up(&self, up: bool) {
        self.0.store_up.set(i64::from(up));
        if up {
            tracing::info!("the store answers again");
        } else {
            tracing::error!(
                "the store is away: cached tokens pass until cache_ttl, others are answered with 503"
            );
        }
    }
}
