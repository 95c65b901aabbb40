//! Where is worked on what is kept of calls: threads that let every other go first where CPUs are short. No byte on its way waits for
//! what is written down of it.

use std::fmt;
use std::io;

use tokio::runtime::{Builder, EnterGuard, Handle, Runtime};

/// A runtime of its own for the ledger and for those who take from it: one thread, below the others.
pub struct Background {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl fmt::Debug for Background {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Background").finish_non_exhaustive()
    }
}

impl Background {
    /// Starts the thread. Fails when the system gives none.
    pub fn start() -> io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("dwell-ledger").on_thread_start(step_back);
        let runtime = builder.enable_all().build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// What is spawned while the guard lives runs here.
    pub fn enter(&self) -> EnterGuard<'_> {
        self.handle.enter()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Waiting for the threads is not allowed where this is dropped; what must be finished is waited for before.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// How far below the others a thread in the background stands: it gets a tenth of a CPU that somebody else wants too.
#[cfg(target_os = "linux")]
const BELOW: i32 = 10;

/// Lets every other thread go before the calling one where there are too few CPUs. On Linux a priority is a thread's own; elsewhere
/// it is the process's, and stays.
pub fn step_back() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::getpriority_process(None)
        .and_then(|own| rustix::process::setpriority_process(None, (own + BELOW).min(19)))
    {
        tracing::debug!(%error, "a thread in the background keeps its priority");
    }
}

/// Lets others go now, between two pieces of work: a thread that is woken up waits for the end of what one below it has begun.
pub fn breathe() {
    std::thread::yield_now();
}
