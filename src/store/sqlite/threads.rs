//! The threads that own the connections. Callers hand them work and wait; a caller that goes away
//! changes nothing for what was begun.
//!
//! One thread writes. What many callers ask for at once goes into one transaction and one sync of the
//! disk, each piece in a savepoint of its own; all are answered after the commit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::Failure;
use super::file::InUse;

/// Callers that wait in line; those beyond wait for a place in it.
const QUEUE: usize = 1_024;
/// Most pieces of work in one transaction.
const BATCH: usize = 256;
/// A read that takes longer is given up: the disk hangs.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than another process is waited for.
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);

type Read = Box<dyn FnOnce(&Connection) + Send>;

enum Message<T> {
    Work(T),
    /// Close the connection, then let go of the sender.
    Stop(oneshot::Sender<()>),
}

/// One or more threads that read, each with its own connection.
pub(super) struct Readers {
    queue: mpsc::Sender<Message<Read>>,
    threads: usize,
    in_use: Arc<InUse>,
}

impl Readers {
    pub(super) fn start(
        name: &str,
        connections: Vec<Connection>,
        in_use: &Arc<InUse>,
    ) -> std::io::Result<Self> {
        let (queue, work) = mpsc::channel(QUEUE);
        let work = Arc::new(Mutex::new(work));
        let threads = connections.len();
        for connection in connections {
            let work = Arc::clone(&work);
            thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || {
                    let stopped = read_all(&connection, &work);
                    drop(connection);
                    drop(stopped);
                })?;
        }
        Ok(Self {
            queue,
            threads,
            in_use: Arc::clone(in_use),
        })
    }

    /// Runs `work` on a connection that reads.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        let in_use = Arc::clone(&self.in_use);
        let job: Read = Box::new(move |connection| {
            // Whoever asked may have gone while it stood in line.
            if reply.is_closed() {
                return;
            }
            let outcome = if in_use.is_in_place() {
                work(connection).map_err(|error| Failure::of(in_use.path(), error))
            } else {
                Err(Failure::replaced(in_use.path()))
            };
            let _ = reply.send(outcome);
        });
        let file = self.in_use.path();
        within(READ_TIMEOUT, file, async {
            self.queue
                .send(Message::Work(job))
                .await
                .map_err(|_| Failure::stopped(file))?;
            answer.await.map_err(|_| Failure::stopped(file))?
        })
        .await
    }

    pub(super) async fn stop(&self) {
        for _ in 0..self.threads {
            stop(&self.queue).await;
        }
    }
}

/// Gives the sender to let go of once the connection is closed.
fn read_all(
    connection: &Connection,
    work: &Mutex<mpsc::Receiver<Message<Read>>>,
) -> Option<oneshot::Sender<()>> {
    loop {
        let next = work
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .blocking_recv();
        match next {
            Some(Message::Work(job)) => {
                // A bug in one read must not end all those after it.
                let _ = catch_unwind(AssertUnwindSafe(|| job(connection)));
            }
            Some(Message::Stop(stopped)) => return Some(stopped),
            None => return None,
        }
    }
}

/// A piece of work in a transaction.
trait Write: Send {
    /// Whether whoever asked for it still waits.
    fn is_wanted(&self) -> bool;
    /// Runs it; false: what it wrote is to be undone.
    fn run(&mut self, connection: &Connection) -> bool;
    /// Tells whoever asked how it went, or that the transaction failed.
    fn answer(self: Box<Self>, commit: Result<(), Failure>);
}

struct Piece<T, F> {
    work: Option<F>,
    outcome: Option<Result<T, Failure>>,
    reply: oneshot::Sender<Result<T, Failure>>,
    in_use: Arc<InUse>,
}

impl<T, F> Write for Piece<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> rusqlite::Result<T> + Send,
{
    fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }

    fn run(&mut self, connection: &Connection) -> bool {
        if let Some(work) = self.work.take() {
            let outcome = catch_unwind(AssertUnwindSafe(|| work(connection)));
            self.outcome = Some(match outcome {
                Ok(outcome) => outcome.map_err(|error| Failure::of(self.in_use.path(), error)),
                Err(_) => Err(Failure::stopped(self.in_use.path())),
            });
        }
        matches!(self.outcome, Some(Ok(_)))
    }

    fn answer(self: Box<Self>, commit: Result<(), Failure>) {
        let outcome = match (self.outcome, commit) {
            (Some(Err(own)), _) => Err(own),
            (_, Err(failure)) => Err(failure),
            (Some(outcome), Ok(())) => outcome,
            (None, Ok(())) => Err(Failure::stopped(self.in_use.path())),
        };
        let _ = self.reply.send(outcome);
    }
}

/// The thread that writes.
pub(super) struct Writer {
    queue: mpsc::Sender<Message<Box<dyn Write>>>,
    in_use: Arc<InUse>,
}

impl Writer {
    pub(super) fn start(connection: Connection, in_use: &Arc<InUse>) -> std::io::Result<Self> {
        let (queue, work) = mpsc::channel(QUEUE);
        let own = Arc::clone(in_use);
        thread::Builder::new()
            .name("store-write".to_owned())
            .spawn(move || {
                let stopped = write_all(&connection, work, &own);
                drop(connection);
                drop(stopped);
            })?;
        Ok(Self {
            queue,
            in_use: Arc::clone(in_use),
        })
    }

    /// Runs `work` in a transaction that is safely on disk when this returns `Ok`. What fails leaves
    /// nothing behind.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        let piece = Box::new(Piece {
            work: Some(work),
            outcome: None,
            reply,
            in_use: Arc::clone(&self.in_use),
        });
        let file = self.in_use.path();
        within(WRITE_TIMEOUT, file, async {
            self.queue
                .send(Message::Work(piece))
                .await
                .map_err(|_| Failure::stopped(file))?;
            answer.await.map_err(|_| Failure::stopped(file))?
        })
        .await
    }

    pub(super) async fn stop(&self) {
        stop(&self.queue).await;
    }
}

fn write_all(
    connection: &Connection,
    mut work: mpsc::Receiver<Message<Box<dyn Write>>>,
    in_use: &InUse,
) -> Option<oneshot::Sender<()>> {
    loop {
        let mut batch: Vec<Box<dyn Write>> = Vec::new();
        let mut stop = None;
        let mut next = work.blocking_recv();
        loop {
            match next {
                Some(Message::Work(piece)) => {
                    if piece.is_wanted() {
                        batch.push(piece);
                    }
                }
                Some(Message::Stop(stopped)) => {
                    stop = Some(stopped);
                    break;
                }
                None if batch.is_empty() => return None,
                None => break,
            }
            if batch.len() >= BATCH {
                break;
            }
            match work.try_recv() {
                Ok(message) => next = Some(message),
                Err(_) => break,
            }
        }
        if !batch.is_empty() {
            let committed = commit(connection, &mut batch, in_use);
            for piece in batch {
                piece.answer(committed.clone());
            }
        }
        if stop.is_some() {
            return stop;
        }
    }
}

fn commit(
    connection: &Connection,
    batch: &mut [Box<dyn Write>],
    in_use: &InUse,
) -> Result<(), Failure> {
    if !in_use.is_in_place() {
        return Err(Failure::replaced(in_use.path()));
    }
    let committed = transact(connection, batch);
    if committed.is_err() && !connection.is_autocommit() {
        let _ = connection.execute_batch("ROLLBACK");
    }
    committed.map_err(|error| Failure::of(in_use.path(), error))?;
    // It may have gone while this was written: then nobody who comes later would find it.
    if !in_use.is_in_place() {
        return Err(Failure::replaced(in_use.path()));
    }
    Ok(())
}

fn transact(connection: &Connection, batch: &mut [Box<dyn Write>]) -> rusqlite::Result<()> {
    let run = |sql| connection.prepare_cached(sql)?.execute([]).map(drop);
    run("BEGIN IMMEDIATE")?;
    for piece in batch {
        run("SAVEPOINT piece")?;
        if !piece.run(connection) {
            // Some errors, a full disk among them, have ended the whole transaction: this says so.
            run("ROLLBACK TO piece")?;
        }
        run("RELEASE piece")?;
    }
    run("COMMIT")
}

async fn within<T>(
    limit: Duration,
    file: &std::path::Path,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(limit, work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Failure::slow(file, limit)),
    }
}

/// Asks one thread to close its connection and waits until it has.
async fn stop<T>(queue: &mpsc::Sender<Message<T>>) {
    let (stopped, wait) = oneshot::channel();
    if queue.send(Message::Stop(stopped)).await.is_ok() {
        let _ = wait.await;
    }
}
