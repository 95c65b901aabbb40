//! How the hub is reached: the variables that Python's client honours, as values with meaning.

use std::time::Duration;

use super::cache::{self, Cache};
use super::error::Result;

/// The hub where no other is named.
const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// Where the hub is, on whose behalf it is asked, and where files go.
#[derive(Clone)]
pub struct Access {
    /// Its address, `HF_ENDPOINT`.
    pub endpoint: String,
    /// Who asks. Sent to the endpoint's host, to no other.
    pub token: Option<String>,
    /// Whether the network is to be left alone, `HF_HUB_OFFLINE`.
    pub offline: bool,
    /// Where files go.
    pub cache: Cache,
    /// The wait before a broken connection is tried again; it doubles with every failure in a row.
    pub patience: Duration,
    /// Failures in a row, without a byte between them, after which a download is given up.
    pub attempts: u32,
}

impl Access {
    /// What the environment says.
    pub fn from_env() -> Result<Self> {
        Self::read(&|name| std::env::var(name).ok())
    }

    /// What these variables say.
    pub(super) fn read(env: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let told = |name: &str| env(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        let endpoint = told("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        let offline = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"];
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: cache::token(env),
            offline: offline.into_iter().find_map(told).is_some_and(|value| is_true(&value)),
            cache: Cache::from_env(env)?,
            patience: Duration::from_secs(1),
            attempts: 5,
        })
    }
}

impl std::fmt::Debug for Access {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access")
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.is_some())
            .field("offline", &self.offline)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

/// What Python's client takes for a yes.
pub(super) fn is_true(value: &str) -> bool {
    ["1", "on", "yes", "true"].iter().any(|yes| value.eq_ignore_ascii_case(yes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(variables: &[(&str, &str)]) -> Access {
        let found = |name: &str| variables.iter().find(|(variable, _)| *variable == name);
        Access::read(&|name| found(name).map(|(_, value)| (*value).to_owned())).unwrap()
    }

    #[test]
    fn the_variables_are_those_of_python() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().to_str().unwrap();
        let usual = access(&[("HOME", folder)]);
        assert_eq!((usual.endpoint.as_str(), usual.token.as_deref()), (DEFAULT_ENDPOINT, None));
        assert!(!usual.offline);
        let told = access(&[
            ("HF_HOME", folder),
            ("HF_ENDPOINT", "http://mirror/"),
            ("HF_TOKEN", " hf_x\n"),
        ]);
        assert_eq!(
            (told.endpoint.as_str(), told.token.as_deref()),
            ("http://mirror", Some("hf_x"))
        );
        assert!(!format!("{told:?}").contains("hf_x"), "a token is not for logs");
        for (value, offline) in
            [("1", true), ("True", true), ("0", false), ("", false), ("no", false)]
        {
            assert_eq!(access(&[("HOME", folder), ("HF_HUB_OFFLINE", value)]).offline, offline);
        }
    }

    #[test]
    fn a_token_of_the_command_line_is_found_unless_it_is_forbidden() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("token"), "hf_file\n").unwrap();
        let folder = home.path().to_str().unwrap();
        assert_eq!(access(&[("HF_HOME", folder)]).token.as_deref(), Some("hf_file"));
        let forbidden =
            [("HF_HOME", folder), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"), ("HF_TOKEN", "x")];
        assert_eq!(access(&forbidden).token, None);
    }
}
