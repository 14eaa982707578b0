//! Threads and accept loops.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::connection::{self, Terms};
use super::connections::{Connections, NoPlace};
use super::drain::Drain;
use super::listener::Listeners;
use super::settings::Settings;
use super::{Handler, Peer};

/// How long accepting pauses after it failed: first, and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// Not every failure is worth a line: there can be hundreds a second.
const WARN_EVERY: Duration = Duration::from_secs(1);

/// The running data plane.
#[derive(Debug)]
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
    ended: mpsc::Receiver<Infallible>,
}

impl Workers {
    /// Resolves when every worker has ended: after [`Drain::stop`], once the last request has, or the
    /// deadline passed.
    pub async fn stopped(mut self) {
        // Nothing is ever sent; the channel closes with the last worker.
        while self.ended.recv().await.is_some() {}
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a worker ended by a panic");
            }
        }
    }
}

/// Starts the workers: a thread each, with a runtime of its own on which `make(number)`'s handler answers
/// what arrives at its listeners.
///
/// # Errors
/// When the system gives no thread or no event queue.
pub fn start<H: Handler>(
    listeners: Listeners,
    settings: &Settings,
    connections: &Arc<Connections>,
    drain: &Drain,
    make: impl Fn(usize) -> H + Send + Sync + 'static,
) -> io::Result<Workers> {
    let make = Arc::new(make);
    let (alive, ended) = mpsc::channel::<Infallible>(1);
    let mut threads = Vec::new();
    for (number, listeners) in listeners.workers.into_iter().enumerate() {
        // Here rather than in the thread, where a failure would go unheard.
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let task = {
            let (make, connections) = (Arc::clone(&make), Arc::clone(connections));
            let (settings, drain) = (settings.clone(), drain.clone());
            async move {
                let handler = Arc::new(make(number));
                serve_all(listeners, handler, &settings, &connections, &drain).await
            }
        };
        let alive = alive.clone();
        let thread = std::thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || {
                run(runtime, number, task);
                drop(alive);
            })?;
        threads.push(thread);
    }
    Ok(Workers { threads, ended })
}

fn run(runtime: Runtime, number: usize, task: impl Future<Output = io::Result<()>>) {
    if let Err(error) = runtime.block_on(task) {
        tracing::error!(worker = number, %error, "a worker ended");
    }
    // Ends what is left of the tasks without waiting for blocking ones.
    runtime.shutdown_background();
}

/// Serves one listener on the runtime it is called on; how the control plane serves the admin listener.
/// Ends as [`Workers::stopped`] does.
///
/// # Errors
/// When the listener cannot be registered with the runtime.
pub async fn serve_on_current_runtime<H: Handler>(
    listener: StdListener,
    handler: Arc<H>,
    settings: &Settings,
    connections: &Arc<Connections>,
    drain: &Drain,
) -> io::Result<()> {
    serve_all(vec![listener], handler, settings, connections, drain).await
}

async fn serve_all<H: Handler>(
    listeners: Vec<StdListener>,
    handler: Arc<H>,
    settings: &Settings,
    connections: &Arc<Connections>,
    drain: &Drain,
) -> io::Result<()> {
    let terms = Arc::new(Terms::new(settings, drain.clone()));
    // Held by every accept loop and every connection: closed when the last of them has ended.
    let (alive, mut ended) = mpsc::channel::<Infallible>(1);
    for listener in listeners {
        listener.set_nonblocking(true)?;
        let acceptor = Acceptor {
            local: listener.local_addr()?,
            listener: TcpListener::from_std(listener)?,
            handler: Arc::clone(&handler),
            terms: Arc::clone(&terms),
            connections: Arc::clone(connections),
            alive: alive.clone(),
        };
        tokio::spawn(keep_accepting(Arc::new(acceptor)));
    }
    drop(alive);
    let mut stop = drain.watch();
    loop {
        tokio::select! {
            // Connections look at the deadline themselves, once they are woken.
            Ok(()) = stop.changed() => connections.wake_all(),
            None = ended.recv() => return Ok(()),
        }
    }
}

/// One listener and what its connections need.
struct Acceptor<H> {
    listener: TcpListener,
    local: SocketAddr,
    handler: Arc<H>,
    terms: Arc<Terms>,
    connections: Arc<Connections>,
    alive: mpsc::Sender<Infallible>,
}

/// Accepts until the drain, also after a panic: a listener nobody accepts from would swallow its share of
/// the connections.
async fn keep_accepting<H: Handler>(acceptor: Arc<Acceptor<H>>) {
    loop {
        let round = Arc::clone(&acceptor);
        let round = tokio::spawn(async move { round.accept_all().await });
        match round.await {
            Err(error) if error.is_panic() => {
                tracing::error!(listen = %acceptor.local, "accepting panicked and starts again");
                tokio::time::sleep(BACK_OFF.1).await;
            }
            _ => return,
        }
    }
}

impl<H: Handler> Acceptor<H> {
    async fn accept_all(&self) {
        let drain = &self.terms.drain;
        let mut stopped = std::pin::pin!(drain.stopped());
        let mut pause = BACK_OFF.0;
        let mut warned: Option<Instant> = None;
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut stopped => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, addr)) => {
                    pause = BACK_OFF.0;
                    self.open(stream, addr).await;
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    if warned.is_none_or(|at| at.elapsed() > WARN_EVERY) {
                        warned = Some(Instant::now());
                        tracing::warn!(listen = %self.local, %error, "accepting failed, it pauses");
                    }
                    // Most likely file descriptors have run out: an idle connection holds one.
                    self.connections.close_longest_idle();
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = drain.stopped() => {}
                    }
                    pause = (pause * 2).min(BACK_OFF.1);
                }
            }
        }
        self.empty_queue().await;
    }

    /// Takes what the kernel has already accepted for us: closing the listener would reset it.
    async fn empty_queue(&self) {
        let listener = SockRef::from(&self.listener);
        loop {
            match listener.accept() {
                Ok((stream, addr)) => {
                    let stream = std::net::TcpStream::from(stream);
                    let opened = stream
                        .set_nonblocking(true)
                        .and_then(|()| TcpStream::from_std(stream));
                    if let (Ok(stream), Some(addr)) = (opened, addr.as_socket()) {
                        self.open(stream, addr).await;
                    }
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(_) => return,
            }
        }
    }

    async fn open(&self, stream: TcpStream, addr: SocketAddr) {
        let watch_bytes = self.terms.watch_bytes();
        let lease = match self.connections.try_admit(addr.ip(), watch_bytes) {
            Ok(lease) => lease,
            Err(NoPlace::PerIp) => return,
            Err(NoPlace::Busy) => tokio::select! {
                lease = self.connections.admit(addr.ip(), watch_bytes) => match lease {
                    Some(lease) => lease,
                    None => return,
                },
                () = self.terms.drain.over() => return,
            },
        };
        // On a wildcard only the connection knows the address it came to.
        let local = if self.local.ip().is_unspecified() {
            stream.local_addr().unwrap_or(self.local)
        } else {
            self.local
        };
        let serving = connection::serve(
            stream,
            Peer { addr, local },
            Arc::clone(&self.handler),
            Arc::clone(&self.terms),
            lease,
        );
        let alive = self.alive.clone();
        tokio::spawn(async move {
            let _alive = alive;
            serving.await;
        });
    }
}

/// Whether an accept error is about the connection that was to be accepted, not about accepting
/// (accept(2): network errors of the new connection come up here).
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted,
        NetworkDown, NetworkUnreachable, TimedOut,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
            | TimedOut
    )
}

#[cfg(test)]
#[path = "tests/worker.rs"]
mod tests;
