//! What can go wrong in this crate: only what people write can be wrong, measuring itself never fails.

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not TOML, or not a suite.
    #[error("suite `{suite}` cannot be read, correct it there: {reason}")]
    SuiteUnreadable {
        /// Which suite.
        suite: String,
        /// What the reader says, with line and column.
        reason: Box<toml::de::Error>,
    },
    /// It is a suite, but one that says two things at once.
    #[error("suite `{suite}`, query {query}: {reason}")]
    SuiteContradictory {
        /// Which suite.
        suite: String,
        /// Which query, counted from 1.
        query: usize,
        /// What is wrong, and what to do.
        reason: &'static str,
    },
    /// No suite of that name is built in.
    #[error("there is no suite `{wanted}`; choose one of {known}")]
    SuiteUnknown {
        /// The name asked for.
        wanted: String,
        /// The names there are.
        known: String,
    },
}
