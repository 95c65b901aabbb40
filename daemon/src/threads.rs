//! Threads with a runtime of their own each: those that serve connections, and one below the others, where everything is worked on that no
//! caller waits for. A task stays on its thread, so that no other has to be woken for it.

use std::cell::Cell;
use std::io;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, EnterGuard, Handle};
use tokio::sync::oneshot;

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(0) };
    /// When this thread let others go last.
    static BREATHED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// A thread that runs what is spawned on it. Dropped, it ends with the step that it is at; what it has not finished is dropped.
#[derive(Debug)]
pub struct Thread {
    handle: Handle,
    /// Ends it when dropped.
    _alive: oneshot::Sender<()>,
}

impl Thread {
    /// Starts a thread with a number other than 0; `begin` is what it does first. Fails when the system gives none.
    pub fn start(name: &str, number: usize, begin: fn()) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (alive, ended) = oneshot::channel::<()>();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            NUMBER.set(number);
            begin();
            // An error says that the other side is gone, which is what is waited for.
            let _ended = runtime.block_on(ended);
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, _alive: alive })
    }

    /// What is spawned while the guard lives runs here.
    pub fn enter(&self) -> EnterGuard<'_> {
        self.handle.enter()
    }

    /// Spawns here from anywhere.
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }
}

/// The number of the [`Thread`] that asks; 0 on any other.
pub fn number() -> usize {
    NUMBER.get()
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

/// How long a thread in the background works until it lets others go: a thread that is woken up waits for the end of what one below it has
/// begun.
const BREATH: Duration = Duration::from_micros(100);

/// Lets others go, between two pieces of work, if it is time to.
pub fn breathe() {
    let now = Instant::now();
    match BREATHED.get() {
        Some(last) if now.duration_since(last) < BREATH => {}
        _ => {
            std::thread::yield_now();
            BREATHED.set(Some(Instant::now()));
        }
    }
}
