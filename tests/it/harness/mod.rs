//! The words the tests are written in: a sidecar before a backend, requests, what arrived.
//!
//! ```ignore
//! let backend = Backend::recording().await;
//! let gate = Sidegate::before(&backend).client("demo", "sudo").start().await;
//! let answer = gate.as_client("demo").await.get("/orders?sudo=uid:7").await;
//! answer.expect_status(200);
//! assert_eq!(backend.only_request().header("x-auth-user-id"), Some("7"));
//! ```
//!
//! Everything listens on ports that the system chose; nothing sleeps: what must be awaited says so.

mod backend;
pub mod outside;
mod program;
mod raw;
mod sidegate;
mod wire;

pub use backend::Backend;
pub use program::{Program, Ran, program, ran, run, run_with};
pub use raw::{Raw, exchange};
pub use sidegate::{Answer, Call, SECRET, Sidegate};
pub use wire::{Act, OK, Place, Wire, read_head};

use std::time::Duration;

/// Longest time anything in a test may take; far above what it needs.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for what must happen, and fails the test where it does not.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}

/// Asks again and again until it holds; for what another task or process does in its own time.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    soon(what, async {
        let mut pause = tokio::time::interval(Duration::from_millis(5));
        while !holds().await {
            pause.tick().await;
        }
    })
    .await;
}
