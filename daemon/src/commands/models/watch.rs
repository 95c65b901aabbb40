//! A download's progress on standard error: what the hub tells becomes bars or lines.

use crate::hub::id::ModelId;
use crate::hub::pull::Progress;
use crate::terminal::progress::Transfer;

/// Shows what it is told.
pub(super) struct Watch {
    transfer: Transfer,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self { transfer: Transfer::stderr() }
    }

    /// Leaves the screen to others.
    pub(super) fn finish(&self) {
        self.transfer.finish();
    }
}

impl Progress for Watch {
    fn planned(&self, id: &ModelId, files: &[(String, u64, u64)]) {
        let sum = |size: fn(&(String, u64, u64)) -> u64| {
            files.iter().map(size).fold(0, u64::saturating_add)
        };
        let (all, kept) = (sum(|file| file.1), sum(|file| file.2));
        if kept < all {
            self.transfer.begin(&id.to_string(), files.len(), all, kept);
        }
    }

    fn grew(&self, _: &str, bytes: u64) {
        self.transfer.grew(bytes);
    }

    fn shrank(&self, _: &str, bytes: u64) {
        self.transfer.shrank(bytes);
    }

    fn waits(&self, file: &str, reason: &str) {
        self.transfer.note(&format!("{file}: {reason}; waiting"));
    }

    fn done(&self, file: &str) {
        self.transfer.done(file);
    }
}
