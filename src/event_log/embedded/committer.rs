//! The queue in front of a writer, and the few threads that empty the queues of all tenants.
//!
//! Group commit: while a thread writes and syncs one group, what arrives gathers for the next one.
//! A queue that has something is on the pool's list once; a thread takes it, commits one group and
//! puts it back at the end, so busy tenants share the threads evenly.

use std::{
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
};

use super::writer::Request;
use crate::event_log::Refusal;

/// Something that has groups to commit.
pub(super) trait Commit: fmt::Debug + Send + Sync + 'static {
    /// Commits one group and says whether there is more.
    fn commit_one(&self) -> bool;
}

/// A few operating-system threads. Writes and syncs block, so they stay off the async threads.
#[derive(Debug)]
pub(super) struct Pool {
    shared: Arc<Shared>,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    ready: Mutex<Ready>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Ready {
    list: VecDeque<Arc<dyn Commit>>,
    is_stopped: bool,
}

impl Pool {
    pub(super) fn start(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let spawn = |number| {
            let shared = Arc::clone(&shared);
            let builder = thread::Builder::new().name(format!("log-commit-{number}"));
            builder.spawn(move || shared.work())
        };
        let threads = (0..threads).map(spawn).collect::<Result<_, _>>()?;
        Ok(Self {
            shared,
            threads: Mutex::new(threads),
        })
    }

    /// Has a thread commit what `log` has queued; false if the pool has stopped.
    pub(super) fn schedule(&self, log: Arc<dyn Commit>) -> bool {
        self.shared.schedule(log)
    }

    /// Ends the threads after the groups they are at.
    pub(super) fn stop(&self) {
        self.shared.lock().is_stopped = true;
        self.shared.changed.notify_all();
        for thread in self.threads.lock().expect(NO_PANIC).drain(..) {
            _ = thread.join();
        }
        // What is still listed would keep its log alive.
        self.shared.lock().list.clear();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn work(&self) {
        let mut unfinished = None;
        while let Some(log) = self.next(unfinished.take()) {
            // A panic is our bug. It must not take the other tenants' commits with it; whoever
            // awaits an answer from this group learns that there is none.
            let more = catch_unwind(AssertUnwindSafe(|| log.commit_one()));
            unfinished = more.unwrap_or(true).then_some(log);
        }
    }

    /// The log that has waited longest, once `unfinished` is listed behind all others. Nobody is
    /// woken for that one: this thread takes one in its place, and a busy log that is alone stays
    /// with one thread.
    fn next(&self, unfinished: Option<Arc<dyn Commit>>) -> Option<Arc<dyn Commit>> {
        let mut ready = self.lock();
        ready.list.extend(unfinished);
        loop {
            if ready.is_stopped {
                return None;
            }
            if let Some(log) = ready.list.pop_front() {
                return Some(log);
            }
            ready = self.changed.wait(ready).expect(NO_PANIC);
        }
    }

    fn schedule(&self, log: Arc<dyn Commit>) -> bool {
        let mut ready = self.lock();
        if ready.is_stopped {
            return false;
        }
        ready.list.push_back(log);
        drop(ready);
        self.changed.notify_one();
        true
    }

    fn lock(&self) -> MutexGuard<'_, Ready> {
        self.ready.lock().expect(NO_PANIC)
    }
}

/// What is queued for one log.
#[derive(Debug, Default)]
pub(super) struct Queue {
    inner: Mutex<Queued>,
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct Queued {
    requests: VecDeque<Request>,
    /// Whether the pool has the log on its list, or a thread at work on it.
    is_scheduled: bool,
    is_closed: bool,
}

/// What to do after a request was queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// Nothing: a thread will come to it.
    Scheduled,
    /// Put the log on the pool's list.
    Schedule,
}

impl Queue {
    /// Queues a request behind all others, if `admit` lets it in. No request is taken meanwhile.
    pub(super) fn push(
        &self,
        request: Request,
        admit: impl FnOnce() -> Result<(), Refusal>,
    ) -> Result<Pushed, Refusal> {
        let mut queued = self.lock();
        if queued.is_closed {
            return Err(Refusal::Closed);
        }
        admit()?;
        queued.requests.push_back(request);
        let was_scheduled = std::mem::replace(&mut queued.is_scheduled, true);
        Ok(match was_scheduled {
            true => Pushed::Scheduled,
            false => Pushed::Schedule,
        })
    }

    /// Takes the oldest requests: as many as fit into `bytes_max`, but at least one.
    pub(super) fn take(&self, bytes_max: usize) -> Vec<Request> {
        let mut queued = self.lock();
        let mut bytes = 0;
        let fits = |request: &&Request| {
            bytes += request.bytes;
            bytes <= bytes_max
        };
        let count = queued.requests.iter().take_while(fits).count();
        let count = count.max(1).min(queued.requests.len());
        queued.requests.drain(..count).collect()
    }

    /// Takes all there is.
    pub(super) fn take_all(&self) -> VecDeque<Request> {
        std::mem::take(&mut self.lock().requests)
    }

    /// Says that a group was committed; returns whether there is more to take.
    pub(super) fn committed(&self) -> bool {
        let mut queued = self.lock();
        queued.is_scheduled = !queued.requests.is_empty();
        if !queued.is_scheduled {
            self.emptied.notify_all();
        }
        queued.is_scheduled
    }

    /// Refuses further requests and waits until those that are queued have been committed.
    pub(super) fn close(&self) {
        let mut queued = self.lock();
        queued.is_closed = true;
        while queued.is_scheduled {
            queued = self.emptied.wait(queued).expect(NO_PANIC);
        }
    }

    /// Drops what is queued and refuses further requests: no thread will come any more.
    pub(super) fn abandon(&self) {
        let mut queued = self.lock();
        queued.is_closed = true;
        queued.is_scheduled = false;
        queued.requests.clear();
        self.emptied.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Queued> {
        self.inner.lock().expect(NO_PANIC)
    }
}

const NO_PANIC: &str = "no holder of this lock panics";

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Instant,
    };

    use super::*;
    use crate::event_log::Appending;

    fn request(bytes: usize) -> Request {
        Request {
            bodies: Vec::new(),
            bytes,
            queued_at: Instant::now(),
            reply: Appending::new().0,
            room: Vec::new(),
        }
    }

    #[test]
    fn a_group_takes_what_fits_and_never_nothing() {
        let queue = Queue::default();
        for bytes in [50, 40, 20, 500, 1] {
            queue.push(request(bytes), || Ok(())).unwrap();
        }
        let take = || {
            let taken = queue.take(100);
            taken.iter().map(|r| r.bytes).collect::<Vec<_>>()
        };
        assert_eq!(take(), [50, 40]);
        assert_eq!(take(), [20]);
        assert_eq!(take(), [500]);
        assert_eq!(take(), [1]);
        assert_eq!(take(), [0; 0]);
    }

    #[test]
    fn a_log_is_on_the_list_once() {
        let queue = Queue::default();
        let push = || queue.push(request(1), || Ok(()));
        assert_eq!(push(), Ok(Pushed::Schedule));
        assert_eq!(push(), Ok(Pushed::Scheduled));
        let full = || Err(Refusal::DiskFull);
        assert_eq!(queue.push(request(1), full), Err(Refusal::DiskFull));
        queue.take(1);
        assert!(queue.committed(), "one is left");
        queue.take(1);
        assert!(!queue.committed());
        assert_eq!(push(), Ok(Pushed::Schedule));
        queue.abandon();
        assert_eq!(push(), Err(Refusal::Closed));
    }

    #[derive(Debug)]
    struct Countdown(AtomicUsize, std::sync::mpsc::Sender<()>);

    impl Commit for Countdown {
        fn commit_one(&self) -> bool {
            let left = self.0.fetch_sub(1, Ordering::SeqCst) - 1;
            if left == 0 {
                _ = self.1.send(());
            }
            assert!(left != 5, "a panic does not end the thread");
            left > 0
        }
    }

    #[derive(Debug)]
    struct Threads(Countdown, Mutex<Vec<thread::ThreadId>>);

    impl Commit for Threads {
        fn commit_one(&self) -> bool {
            self.1.lock().unwrap().push(thread::current().id());
            self.0.commit_one()
        }
    }

    #[test]
    fn a_log_that_is_busy_alone_stays_with_one_thread() {
        let pool = Pool::start(3).unwrap();
        let (sender, done) = std::sync::mpsc::channel();
        let countdown = Countdown(AtomicUsize::new(1_000), sender);
        let log = Arc::new(Threads(countdown, Mutex::default()));
        assert!(pool.schedule(log.clone()));
        done.recv().unwrap();
        pool.stop();
        let mut threads = log.1.lock().unwrap().clone();
        threads.dedup();
        assert_eq!(threads.len(), 1);
    }

    #[test]
    fn threads_go_on_until_nothing_is_left() {
        let pool = Pool::start(2).unwrap();
        let (sender, done) = std::sync::mpsc::channel();
        let log = Arc::new(Countdown(AtomicUsize::new(10), sender));
        assert!(pool.schedule(log.clone()));
        done.recv().unwrap();
        pool.stop();
        assert!(!pool.schedule(log));
    }
}
