//! Where lines go: into a buffer that one thread writes out. Whoever has something to say never waits for
//! the disk or the terminal; when the reader of the log is too slow, access lines are dropped first, and
//! every dropped line is counted.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::access::AccessLine;
use super::audit::AuditLine;
use super::json::TimeText;
use super::settings::Format;

/// Bytes that may wait before access lines are dropped.
const ROOM_FOR_ACCESS: usize = 4 << 20;
/// Before log events are.
const ROOM_FOR_EVENTS: usize = 5 << 20;
/// Before audit lines are: nothing else can take this room from them.
const ROOM_FOR_AUDIT: usize = 8 << 20;
/// After writing, the thread leaves lines to gather for so long: one wake-up for many lines.
const GATHER: Duration = Duration::from_millis(20);
/// A buffer that a burst has grown is given back.
const KEEP_BUFFER: usize = 64 << 10;

/// A handle on the log. Clones share it; the thread ends with the last of them.
#[derive(Clone)]
pub struct Lines(Arc<Handle>);

struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.waiting().closed = true;
        self.0.wake.notify_all();
    }
}

struct Shared {
    waiting: Mutex<Waiting>,
    /// For the thread: there is something to write.
    wake: Condvar,
    /// For who waits in [`Lines::flush`].
    written: Condvar,
    dropped: AtomicU64,
    format: Format,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    time: TimeText,
    /// The thread sleeps and must be woken.
    asleep: bool,
    /// The thread is writing what it took.
    writing: bool,
    hurry: bool,
    closed: bool,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // A panic while a line was written leaves at worst half a line.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, room: usize, write: impl FnOnce(&mut Vec<u8>, &mut TimeText)) {
        let mut waiting = self.waiting();
        let Waiting { bytes, time, .. } = &mut *waiting;
        if bytes.len() >= room {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        write(bytes, time);
        if std::mem::take(&mut waiting.asleep) {
            drop(waiting);
            self.wake.notify_one();
        }
    }
}

impl Lines {
    /// Lines go to `out`, written by a thread of their own.
    #[must_use]
    pub fn to(out: impl Write + Send + 'static, format: Format) -> Self {
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            wake: Condvar::new(),
            written: Condvar::new(),
            dropped: AtomicU64::new(0),
            format,
        });
        let writer = Arc::clone(&shared);
        let started = std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_out(&writer, out));
        if started.is_err() {
            // Nobody will write: everything is dropped and counted.
            shared.waiting().closed = true;
        }
        Self(Arc::new(Handle(shared)))
    }

    fn shared(&self) -> &Shared {
        &self.0.0
    }

    /// How lines look.
    #[must_use]
    pub fn format(&self) -> Format {
        self.shared().format
    }

    /// Adds an access line; the first kind that is dropped.
    pub fn access(&self, line: &AccessLine<'_>) {
        let format = self.format();
        self.shared()
            .add(ROOM_FOR_ACCESS, |out, time| line.write(out, time, format));
    }

    /// Adds an audit line; the last kind that is dropped.
    pub fn audit(&self, line: &AuditLine<'_>) {
        let format = self.format();
        self.shared()
            .add(ROOM_FOR_AUDIT, |out, time| line.write(out, time, format));
    }

    pub(super) fn event(&self, write: impl FnOnce(&mut Vec<u8>, &mut TimeText)) {
        self.shared().add(ROOM_FOR_EVENTS, write);
    }

    /// How many lines were dropped because the log's reader is too slow.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared().dropped.load(Ordering::Relaxed)
    }

    /// Waits until everything said so far is written, at most two seconds. Blocks: for the end of a process.
    pub fn flush(&self) {
        const PATIENCE: Duration = Duration::from_secs(2);
        let shared = self.shared();
        let mut waiting = shared.waiting();
        waiting.hurry = true;
        waiting.asleep = false;
        shared.wake.notify_all();
        let unfinished = |waiting: &mut Waiting| {
            !waiting.closed && (waiting.writing || !waiting.bytes.is_empty())
        };
        let _ = shared
            .written
            .wait_timeout_while(waiting, PATIENCE, unfinished);
    }
}

fn write_out(shared: &Shared, mut out: impl Write) {
    let mut taken = Vec::new();
    loop {
        let mut waiting = shared.waiting();
        while waiting.bytes.is_empty() {
            waiting.hurry = false;
            if waiting.closed {
                return;
            }
            waiting.asleep = true;
            waiting = shared
                .wake
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
        waiting.asleep = false;
        std::mem::swap(&mut waiting.bytes, &mut taken);
        waiting.writing = true;
        drop(waiting);

        // A log nobody can write to must not end the service; there is nowhere to say it either.
        let _ = out.write_all(&taken).and_then(|()| out.flush());
        taken.clear();
        taken.shrink_to(KEEP_BUFFER);

        let mut waiting = shared.waiting();
        waiting.writing = false;
        shared.written.notify_all();
        let gathers = |waiting: &mut Waiting| !waiting.hurry && !waiting.closed;
        drop(shared.wake.wait_timeout_while(waiting, GATHER, gathers));
    }
}

#[cfg(test)]
#[path = "tests/lines.rs"]
mod tests;
