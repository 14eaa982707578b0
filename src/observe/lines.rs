//! Where lines go: one thread writes them, and nobody who hands one over ever waits for it.
//!
//! A line is made in a buffer of its thread and copied to a shared one under a short lock. The writer
//! sleeps between batches, so that a busy proxy does not wake it for each line; an idle one wakes it
//! for the first. When whoever reads the lines does not keep up, new ones are dropped and counted:
//! access lines first, audit lines last, each kind having room that the ones before it cannot take.

use std::cell::RefCell;
use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::access::AccessLine;
use super::audit::AuditLine;
use super::settings::Format;

/// How long lines gather before they are written.
const GATHER: Duration = Duration::from_millis(20);
/// Bytes that may wait before access lines are dropped: a tenth of a second at full load.
const ACCESS_ROOM: usize = 1 << 20;
/// Room beyond it for log events, and beyond that for audit lines.
const EVENT_ROOM: usize = ACCESS_ROOM + (128 << 10);
const AUDIT_ROOM: usize = EVENT_ROOM + (512 << 10);
/// Bytes waiting that end the gathering early.
const HASTE: usize = ACCESS_ROOM / 2;
/// A buffer that grew beyond this in a burst is given back.
const KEPT: usize = 64 << 10;
/// Longest that leaving waits for a reader of the lines that hangs.
const FLUSH: Duration = Duration::from_secs(5);

/// Where lines are handed over. Clones share one writer; it ends when the last one is dropped.
#[derive(Clone)]
pub struct Lines(Arc<Owner>);

struct Owner {
    shared: Arc<Shared>,
    format: Format,
}

struct Shared {
    waiting: Mutex<Waiting>,
    /// The writer waits here.
    wake: Condvar,
    /// Those who flush wait here.
    written: Condvar,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// Batches taken and batches written by the writer.
    taken: u64,
    done: u64,
    /// The writer sleeps until a line comes.
    parked: bool,
    /// Somebody wants the lines now.
    hurry: bool,
    closed: bool,
}

/// Which lines go first when there is no room.
#[derive(Clone, Copy)]
enum Kind {
    Access,
    Event,
    Audit,
}

impl Kind {
    fn room(self) -> usize {
        match self {
            Self::Access => ACCESS_ROOM,
            Self::Event => EVENT_ROOM,
            Self::Audit => AUDIT_ROOM,
        }
    }
}

impl Lines {
    /// Lines in `format` to `out`, written by a thread of their own.
    #[must_use]
    pub fn to(out: impl Write + Send + 'static, format: Format) -> Self {
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            wake: Condvar::new(),
            written: Condvar::new(),
            dropped: AtomicU64::new(0),
        });
        let writer = Writer {
            shared: Arc::clone(&shared),
            out,
            torn: false,
        };
        let started = std::thread::Builder::new()
            .name("lines".to_owned())
            .spawn(move || writer.run());
        if started.is_err() {
            // Without a thread every line is dropped, and counted.
            shared.waiting().closed = true;
        }
        Self(Arc::new(Owner { shared, format }))
    }

    /// Hands over an access line.
    pub fn access(&self, line: &AccessLine<'_>) {
        self.push(Kind::Access, |format, out| line.write(format, out));
    }

    /// Hands over an audit line.
    pub fn audit(&self, line: &AuditLine<'_>) {
        self.push(Kind::Audit, |format, out| line.write(format, out));
    }

    /// Hands over a log event.
    pub(super) fn event(&self, write: impl FnOnce(Format, &mut Vec<u8>)) {
        self.push(Kind::Event, write);
    }

    /// How many lines were dropped, for want of room or because they could not be written.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.shared.dropped.load(Ordering::Relaxed)
    }

    /// Waits until everything handed over so far is written, at most five seconds.
    pub fn flush(&self) {
        let shared = &self.0.shared;
        let deadline = Instant::now() + FLUSH;
        let mut waiting = shared.waiting();
        if waiting.closed {
            return;
        }
        let wanted = waiting.taken + u64::from(!waiting.bytes.is_empty());
        while waiting.done < wanted {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return;
            };
            waiting.hurry = true;
            shared.wake.notify_one();
            let woken = shared.written.wait_timeout(waiting, left);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn push(&self, kind: Kind, write: impl FnOnce(Format, &mut Vec<u8>)) {
        thread_local! {
            static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let format = self.0.format;
        // A line that is made while another is made (a value whose Display logs) has its own buffer;
        // so has one on a thread that is ending.
        let mut write = Some(write);
        let _ = LINE.try_with(|line| {
            if let (Ok(mut line), Some(write)) = (line.try_borrow_mut(), write.take()) {
                line.clear();
                write(format, &mut line);
                self.0.shared.hand_over(kind, &line);
                line.shrink_to(KEPT);
            }
        });
        if let Some(write) = write {
            let mut line = Vec::new();
            write(format, &mut line);
            self.0.shared.hand_over(kind, &line);
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.waiting().closed = true;
        self.shared.wake.notify_one();
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Nothing that can panic runs under the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hand_over(&self, kind: Kind, line: &[u8]) {
        let mut waiting = self.waiting();
        let before = waiting.bytes.len();
        let after = before + line.len();
        if waiting.closed || after > kind.room() {
            drop(waiting);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.bytes.extend_from_slice(line);
        let wake = waiting.parked || (before < HASTE && after >= HASTE);
        waiting.parked = false;
        drop(waiting);
        if wake {
            self.wake.notify_one();
        }
    }
}

struct Writer<W> {
    shared: Arc<Shared>,
    out: W,
    /// The last batch broke off inside a line.
    torn: bool,
}

impl<W: Write> Writer<W> {
    fn run(mut self) {
        let mut batch = Vec::new();
        while self.next(&mut batch) {
            self.write(&batch);
            batch.clear();
            batch.shrink_to(KEPT);
            let mut waiting = self.shared.waiting();
            waiting.done = waiting.taken;
            drop(waiting);
            self.shared.written.notify_all();
        }
    }

    /// Waits for lines and takes all there are; `false` when there will be none any more.
    fn next(&self, batch: &mut Vec<u8>) -> bool {
        let shared = &self.shared;
        let gathered = |waiting: &mut Waiting| {
            !waiting.closed && !waiting.hurry && waiting.bytes.len() < HASTE
        };
        let mut waiting = shared.waiting();
        loop {
            // Also after a batch: while lines come, nobody has to wake this thread.
            let woken = shared.wake.wait_timeout_while(waiting, GATHER, gathered);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
            waiting.hurry = false;
            if !waiting.bytes.is_empty() {
                std::mem::swap(&mut waiting.bytes, batch);
                waiting.taken += 1;
                return true;
            }
            if waiting.closed {
                return false;
            }
            waiting.parked = true;
            let woken = shared.wake.wait_while(waiting, |waiting| {
                waiting.bytes.is_empty() && !waiting.closed && !waiting.hurry
            });
            waiting = woken.unwrap_or_else(PoisonError::into_inner);
            waiting.parked = false;
        }
    }

    fn write(&mut self, batch: &[u8]) {
        // A torn line must not swallow the next one.
        let mut left = batch;
        if self.torn && self.out.write_all(b"\n").is_ok() {
            self.torn = false;
        }
        while !left.is_empty() {
            match self.out.write(left) {
                Ok(0) => break,
                Ok(count) => left = &left[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Standard error may be a pipe that somebody made non-blocking.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    std::thread::sleep(GATHER);
                }
                Err(_) => break,
            }
        }
        let _ = self.out.flush();
        if !left.is_empty() {
            let lost = left.iter().filter(|byte| **byte == b'\n').count();
            let written = batch.len() - left.len();
            self.torn |= written > 0 && batch[written - 1] != b'\n';
            let lost = u64::try_from(lost).unwrap_or(u64::MAX);
            self.shared.dropped.fetch_add(lost, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
#[path = "tests/lines.rs"]
mod tests;
