//! Worker threads, each with a runtime of its own.
//!
//! A connection stays on the worker that accepted it, so nothing on its path crosses threads or
//! takes a lock. Work reaches a worker as a closure that makes a future there; the future itself
//! need not be `Send`.
//!
//! This and [`daemon`](crate::daemon) are for programs that *are* a proxy. A program that embeds
//! one brings its own runtime and calls [`Proxy::handle`](crate::Proxy::handle).

use std::io;
use std::pin::Pin;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, LocalOptions};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::sleep;

/// A number of worker threads.
///
/// Dropping it ends them at once, with everything that runs on them.
pub struct Workers {
    threads: Vec<Worker>,
}

struct Worker {
    jobs: Option<UnboundedSender<Job>>,
    runtime: Handle,
    thread: Option<JoinHandle<()>>,
}

type Job = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>> + Send>;

impl Workers {
    /// Starts `count` threads, at least one, named `NAME-0`, `NAME-1` and so on.
    ///
    /// # Errors
    /// The system has no more threads or descriptors.
    pub fn start(name: &str, count: usize) -> io::Result<Workers> {
        let threads = (0..count.max(1)).map(|index| Worker::start(&format!("{name}-{index}")));
        Ok(Workers { threads: threads.collect::<io::Result<_>>()? })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.threads.len()
    }

    /// How many tasks there are on all of them.
    pub fn tasks(&self) -> usize {
        self.threads.iter().map(|worker| worker.runtime.metrics().num_alive_tasks()).sum()
    }

    /// Runs `task` on worker `index`, to its end or the worker's.
    pub fn run<F>(&self, index: usize, task: impl FnOnce() -> F + Send + 'static)
    where
        F: Future<Output = ()> + 'static,
    {
        if let Some(jobs) = &self.threads[index].jobs {
            // A worker that panicked takes no jobs; the process is about to say so and end.
            let _ = jobs.send(Box::new(move || Box::pin(task())));
        }
    }
}

impl Worker {
    fn start(name: &str) -> io::Result<Worker> {
        let runtime = |()| {
            Builder::new_current_thread()
                .enable_all()
                .event_interval(EVENT_INTERVAL)
                .build_local(LocalOptions::default())
        };
        let (jobs, queue) = mpsc::unbounded_channel();
        let (started, start) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || match runtime(()) {
            Ok(runtime) => {
                let _ = started.send(Ok(runtime.handle().clone()));
                // Until the runtime has ended, and with it what its tasks have freed.
                let kept = warm_alloc::keep();
                runtime.block_on(run_jobs(queue));
                drop((runtime, kept));
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        })?;
        let runtime = start.recv().map_err(io::Error::other)??;
        Ok(Worker { jobs: Some(jobs), runtime, thread: Some(thread) })
    }
}

/// Jobs are few (a listener here and there), so their queue needs no bound.
async fn run_jobs(mut queue: UnboundedReceiver<Job>) {
    // A timer that ends before all others makes the runtime wake itself through a descriptor. This
    // one ends sooner than those of connections, so theirs never do.
    tokio::task::spawn_local(async {
        loop {
            sleep(HEARTBEAT).await;
        }
    });
    while let Some(job) = queue.recv().await {
        tokio::task::spawn_local(job());
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for worker in &mut self.threads {
            worker.jobs = None;
        }
        for worker in &mut self.threads {
            if let Some(thread) = worker.thread.take() {
                let _ = thread.join();
            }
        }
    }
}

/// Shorter than a connection's shortest usual timeout, and long enough to cost nothing.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// How many tasks a worker runs before it asks the kernel for events again. The runtime's default
/// of 61 asks twice per round when a few dozen connections are busy.
const EVENT_INTERVAL: u32 = 512;
