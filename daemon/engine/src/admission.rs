//! How many requests may be under way at once, and how long a refused one should wait. Who does the work is its users'
//! business.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use dwell_probes::time::Stamp;

use crate::backend::SubmitError;

/// Counts the requests between their submission and their end.
#[derive(Debug)]
pub(crate) struct Admission {
    /// Requests that are served at once.
    served: usize,
    /// Requests that may wait meanwhile.
    queue: usize,
    under_way: AtomicUsize,
    /// Exponential mean of the service times of recent requests; 0 before the first.
    mean_ns: AtomicU64,
}

/// The right to be served; given back on drop.
#[derive(Debug)]
pub(crate) struct Ticket {
    admission: Arc<Admission>,
    started: Option<Stamp>,
}

impl Admission {
    /// Admits `served` requests to be served at once and `queue` to wait.
    pub(crate) fn new(served: usize, queue: usize) -> Arc<Self> {
        Arc::new(Self { served, queue, under_way: AtomicUsize::new(0), mean_ns: AtomicU64::new(0) })
    }

    /// Requests that may be under way at once.
    pub(crate) const fn places(&self) -> usize {
        self.queue.saturating_add(self.served)
    }

    /// A ticket, or [`SubmitError::Busy`] when as many wait as may.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<Ticket, SubmitError> {
        let limit = self.places();
        self.under_way
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < limit).then_some(n + 1))
            .map(|_| Ticket { admission: Arc::clone(self), started: None })
            .map_err(|under_way| SubmitError::Busy {
                waiting: under_way.saturating_sub(self.served),
                retry_after_s: self.retry_after_s(),
            })
    }

    /// Requests that wait for a place.
    pub(crate) fn waiting(&self) -> usize {
        self.under_way.load(Ordering::Acquire).saturating_sub(self.served)
    }

    /// One service time is what it takes until a place is free; at least 1 s.
    fn retry_after_s(&self) -> u64 {
        self.mean_ns.load(Ordering::Relaxed).div_ceil(1_000_000_000).max(1)
    }
}

impl Ticket {
    /// Notes that the request is being served from now on.
    pub(crate) fn start(&mut self) {
        self.started = Some(Stamp::now());
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(started) = self.started {
            let took_ns = Stamp::now().since(started);
            let mean_ns = self.admission.mean_ns.load(Ordering::Relaxed);
            let next = if mean_ns == 0 { took_ns } else { mean_ns / 4 * 3 + took_ns / 4 };
            self.admission.mean_ns.store(next, Ordering::Relaxed);
        }
        self.admission.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_served_and_as_many_wait_as_may() {
        let admission = Admission::new(1, 1);
        let served = admission.enter().unwrap();
        let _waiting = admission.enter().unwrap();
        let Err(SubmitError::Busy { waiting, retry_after_s }) = admission.enter() else {
            panic!("a third request was admitted");
        };
        assert_eq!((waiting, retry_after_s), (1, 1));
        drop(served);
        assert!(admission.enter().is_ok());
    }

    #[test]
    fn those_that_are_served_at_once_do_not_count_as_waiting() {
        let admission = Admission::new(3, 1);
        let tickets: Vec<Ticket> = (0..4).map(|_| admission.enter().unwrap()).collect();
        assert!(matches!(admission.enter(), Err(SubmitError::Busy { waiting: 1, .. })));
        drop(tickets);
    }

    #[test]
    fn the_wait_asked_for_follows_the_service_times() {
        let admission = Admission::new(1, 0);
        admission.mean_ns.store(2_500_000_000, Ordering::Relaxed);
        let _served = admission.enter().unwrap();
        let Err(SubmitError::Busy { retry_after_s, .. }) = admission.enter() else {
            panic!("a second request was admitted");
        };
        assert_eq!(retry_after_s, 3);
    }
}
