//! What one worker saw last: a small table of its own in front of the shared cache, so that the common
//! case takes a fraction of a microsecond and touches nothing that other workers write.
//!
//! It belongs to one epoch of the [`Verifier`](super::verify::Verifier), which a new one begins each time
//! anything is forgotten: what a revocation took out of the cache is taken for nothing here as well.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use super::TokenHash;
use super::cache::TokenFacts;

/// Most tokens kept; a full table begins anew. About half a MiB.
const MOST: usize = 14_000;
/// Each so many hits one is sent on, so that the shared cache knows what is in use.
const ASK_EVERY: u32 = 64;

/// One worker's table.
#[derive(Default)]
pub struct Recent(Mutex<Table>);

#[derive(Default)]
struct Table {
    epoch: u64,
    hits: u32,
    seen: HashMap<TokenHash, Arc<TokenFacts>, BuildHasherDefault<FirstBytes>>,
}

/// A token's hash is as good as random already, and nobody can choose one that is let in here.
#[derive(Default)]
struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_ne_bytes(*first);
        }
    }
    fn write_usize(&mut self, _: usize) {}
}

impl Recent {
    /// What was seen of this token in this epoch.
    pub(super) fn get(&self, hash: &TokenHash, epoch: u64) -> Option<Arc<TokenFacts>> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if table.epoch != epoch {
            return None;
        }
        table.hits = table.hits.wrapping_add(1);
        if table.hits.is_multiple_of(ASK_EVERY) {
            return None;
        }
        table.seen.get(hash).cloned()
    }

    /// Keeps what the shared cache said. `epoch` was read before it was asked: had anything been
    /// forgotten since, it belongs to an epoch that is over.
    pub(super) fn keep(&self, hash: TokenHash, facts: &Arc<TokenFacts>, epoch: u64) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if table.epoch != epoch || table.seen.len() >= MOST {
            table.seen.clear();
            table.epoch = epoch;
        }
        table.seen.insert(hash, Arc::clone(facts));
    }
}
