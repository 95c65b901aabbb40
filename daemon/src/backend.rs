//! Which engine stands behind the gateway: the built-in pair, a checkpoint on disk, or none.
