//! What is known of one connection: what it is busy with and since when. Written by the connection's
//! own task, read by the registry when it looks for the longest idle one.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use futures_util::task::AtomicWaker;
use tokio::time::Instant;

/// A request is in flight: the registry leaves the connection alone.
const IN_FLIGHT: u64 = 0;
/// The registry has given the connection's place to another one: no request may begin any more.
const CLOSING: u64 = u64::MAX;

/// What a connection is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// Its first head has not been read whole.
    Fresh,
    /// Kept alive after an answer, not a byte of the next head.
    Idle,
    /// Some bytes of a later head.
    Head,
    /// A request is with the handler.
    Waiting,
    /// The answer's head is out of the handler, its body flows.
    Answering,
    /// The answer's body has ended, not all of it is written.
    Ended,
    /// The answer's body broke off.
    Broken,
    /// Our side is shut down; what the client still sends is thrown away.
    Lingering,
}

impl Phase {
    const ALL: [Self; 8] = [
        Self::Fresh,
        Self::Idle,
        Self::Head,
        Self::Waiting,
        Self::Answering,
        Self::Ended,
        Self::Broken,
        Self::Lingering,
    ];

    /// Whether a request is in flight: from its head to the last byte of its answer.
    pub(super) fn in_flight(self) -> bool {
        matches!(
            self,
            Self::Waiting | Self::Answering | Self::Ended | Self::Broken
        )
    }
}

/// How far the request's body has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum RequestBody {
    /// None, or read to its end.
    Done,
    /// Being read.
    Open,
    /// Nobody wants the rest.
    Left,
}

/// What became of the client's end of sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Eof {
    /// It has not ended, for all we know.
    No,
    /// It has ended; the codec does not know yet.
    Held,
    /// The codec may know.
    Told,
}

/// The state of one connection, shared by its parts. Every field but `idle` is written and read on the
/// connection's own task: the atomics are there so that it may be shared at all.
#[derive(Debug)]
pub(super) struct Slot {
    /// [`IN_FLIGHT`], [`CLOSING`], or the nanoseconds after `base` since when it is idle, plus one.
    idle: AtomicU64,
    phase: AtomicU8,
    request_body: AtomicU8,
    eof: AtomicU8,
    /// Bytes have arrived since the last look.
    touched: AtomicBool,
    /// The phase was entered (anew) since the last look.
    entered: AtomicBool,
    /// Only the connection's end tells the client that the answer is whole.
    close_delimited: AtomicBool,
    /// When a byte last moved; kept only with `[server] stream_idle_timeout`.
    moved: AtomicU64,
    watch_bytes: bool,
    base: Instant,
    waker: AtomicWaker,
}

impl Slot {
    pub(super) fn new(base: Instant) -> Self {
        Self {
            idle: AtomicU64::new(stamp(base, Instant::now())),
            phase: AtomicU8::new(Phase::Fresh as u8),
            request_body: AtomicU8::new(RequestBody::Done as u8),
            eof: AtomicU8::new(Eof::No as u8),
            touched: AtomicBool::new(false),
            entered: AtomicBool::new(false),
            close_delimited: AtomicBool::new(false),
            moved: AtomicU64::new(0),
            watch_bytes: false,
            base,
            waker: AtomicWaker::new(),
        }
    }

    /// Notes the time of every byte from now on.
    pub(super) fn watching_bytes(mut self, watch: bool) -> Self {
        self.watch_bytes = watch;
        self
    }

    pub(super) fn phase(&self) -> Phase {
        let raw = usize::from(self.phase.load(Ordering::Relaxed));
        Phase::ALL.get(raw).copied().unwrap_or(Phase::Broken)
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
        self.entered.store(true, Ordering::Relaxed);
        self.note_bytes();
    }

    /// A request's head is complete. `false`: the place was given away, the request must not begin.
    pub(super) fn begin(&self, body: RequestBody) -> bool {
        let idle = self.idle.load(Ordering::Relaxed);
        // Nobody but this task and the one that sets CLOSING writes here.
        if idle == CLOSING
            || self
                .idle
                .compare_exchange(idle, IN_FLIGHT, Ordering::SeqCst, Ordering::SeqCst)
                .is_err()
        {
            return false;
        }
        self.set_request_body(body);
        self.close_delimited.store(false, Ordering::Relaxed);
        self.enter(Phase::Waiting);
        true
    }

    /// The handler has answered.
    pub(super) fn answer(&self, close_delimited: bool) {
        self.close_delimited
            .store(close_delimited, Ordering::Relaxed);
        self.enter(Phase::Answering);
    }

    pub(super) fn set_request_body(&self, state: RequestBody) {
        self.request_body.store(state as u8, Ordering::Relaxed);
        self.note_bytes();
        if self.phase() == Phase::Ended {
            // Only this was waited for, and it may have happened in another task.
            self.waker.wake();
        }
    }

    pub(super) fn request_body_is(&self, state: RequestBody) -> bool {
        self.request_body.load(Ordering::Relaxed) == state as u8
    }

    pub(super) fn set_eof(&self, eof: Eof) {
        self.eof.store(eof as u8, Ordering::Relaxed);
    }

    pub(super) fn eof_is(&self, eof: Eof) -> bool {
        self.eof.load(Ordering::Relaxed) == eof as u8
    }

    pub(super) fn close_delimited(&self) -> bool {
        self.close_delimited.load(Ordering::Relaxed)
    }

    /// Bytes came from the client.
    pub(super) fn received(&self) {
        self.touched.store(true, Ordering::Relaxed);
        if self.phase() == Phase::Idle {
            self.enter(Phase::Head);
        } else {
            self.note_bytes();
        }
    }

    /// A byte moved in one direction or the other.
    pub(super) fn note_bytes(&self) {
        if self.watch_bytes {
            let now = stamp(self.base, Instant::now());
            self.moved.store(now, Ordering::Relaxed);
        }
    }

    /// When a byte last moved.
    pub(super) fn moved(&self) -> Instant {
        let nanos = self.moved.load(Ordering::Relaxed).saturating_sub(1);
        self.base + std::time::Duration::from_nanos(nanos)
    }

    /// Looks at what the last poll changed: the time since when the present phase lasts, if it was
    /// entered in it. Tells the registry since when the connection is idle, if it is.
    pub(super) fn settle(&self) -> Settled {
        let entered = self.entered.load(Ordering::Relaxed);
        let touched = self.touched.load(Ordering::Relaxed);
        if !entered && !touched {
            return Settled::default();
        }
        self.entered.store(false, Ordering::Relaxed);
        self.touched.store(false, Ordering::Relaxed);
        if self.phase().in_flight() {
            return Settled::default();
        }
        let now = Instant::now();
        let idle = self.idle.load(Ordering::Relaxed);
        let became_idle = idle != CLOSING
            && self
                .idle
                .compare_exchange(
                    idle,
                    stamp(self.base, now),
                    Ordering::SeqCst,
                    Ordering::SeqCst,
                )
                .is_ok();
        Settled {
            since: entered.then_some(now),
            became_idle,
        }
    }

    /// Since when it is idle, as the registry compares it.
    pub(super) fn idle_since(&self) -> Option<u64> {
        match self.idle.load(Ordering::SeqCst) {
            IN_FLIGHT | CLOSING => None,
            since => Some(since),
        }
    }

    /// Closes the connection if it is idle since exactly then, and so takes its place away.
    pub(super) fn close_if_idle_since(&self, since: u64) -> bool {
        let closed = self
            .idle
            .compare_exchange(since, CLOSING, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok();
        if closed {
            self.waker.wake();
        }
        closed
    }

    /// Whether its place was given away.
    pub(super) fn is_closing(&self) -> bool {
        self.idle.load(Ordering::Relaxed) == CLOSING
    }

    /// Ends the connection's claim to its place. `false`: it was already given away.
    pub(super) fn give_up_place(&self) -> bool {
        self.idle.swap(CLOSING, Ordering::SeqCst) != CLOSING
    }

    pub(super) fn waker(&self) -> &AtomicWaker {
        &self.waker
    }
}

/// What [`Slot::settle`] found.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Settled {
    /// The phase was entered at this time.
    pub(super) since: Option<Instant>,
    /// The connection may be closed for room from now on.
    pub(super) became_idle: bool,
}

fn stamp(base: Instant, now: Instant) -> u64 {
    let nanos = now.saturating_duration_since(base).as_nanos();
    // Five centuries of nanoseconds fit.
    u64::try_from(nanos).unwrap_or(CLOSING - 2).min(CLOSING - 2) + 1
}
