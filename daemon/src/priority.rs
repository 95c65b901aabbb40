//! Which threads go first where there are too few CPUs: those that serve requests, before those that keep and watch what has been served.

/// Lets every other thread go before the calling one: bytes on their way never wait for what is made of them later. On Linux a priority is a
/// thread's own; elsewhere it is the process's, and stays.
pub fn yield_to_others(thread: &str) {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, 10) {
        tracing::debug!(%error, thread, "the thread keeps its priority");
    }
    #[cfg(not(target_os = "linux"))]
    let _nothing_to_do = thread;
}
