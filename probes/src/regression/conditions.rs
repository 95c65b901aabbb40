//! Under what runs were made: the version, the host, and the settings that shape their times. Comparisons name what differs; they are made all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

/// What runs were measured on.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Machine {
    /// The operating system.
    pub system: String,
    /// The processors' architecture.
    pub architecture: String,
    /// How many processors it has.
    pub processors: usize,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        Self {
            system: std::env::consts::OS.to_owned(),
            architecture: std::env::consts::ARCH.to_owned(),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { system, architecture, processors } = self;
        write!(out, "{system} {architecture} with {processors} processors")
    }
}

/// Under what a daemon made its runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Conditions {
    /// The dwell that measured.
    pub version: String,
    /// What it ran on.
    pub host: Machine,
    /// The settings that shape latency, by name: model, draft model, draft length, how weights are held, memory for the cache, upstreams, ...
    pub settings: BTreeMap<String, String>,
}

impl Conditions {
    /// This program on this machine, with these settings.
    pub fn this(settings: BTreeMap<String, String>) -> Self {
        Self { version: env!("CARGO_PKG_VERSION").to_owned(), host: Machine::this(), settings }
    }

    fn named(&self) -> impl Iterator<Item = (String, String)> + '_ {
        let settings = self.settings.iter().map(|(name, value)| (name.clone(), value.clone()));
        let first = [("dwell", self.version.clone()), ("host", self.host.to_string())];
        first.map(|(name, value)| (name.to_owned(), value)).into_iter().chain(settings)
    }
}

/// Something that was not the same on both sides of a comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The setting, or `dwell` for the version, or `host`.
    pub what: String,
    /// What it was; several values where runs differed among themselves, none where it was not set.
    pub before: BTreeSet<String>,
    /// What it is.
    pub now: BTreeSet<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = |values: &BTreeSet<String>| match values.len() {
            0 => "not set".to_owned(),
            _ => values.iter().map(String::as_str).collect::<Vec<&str>>().join(" and "),
        };
        write!(out, "{} was {}, is {}", self.what, told(&self.before), told(&self.now))
    }
}

/// What differs; nothing where either side's conditions are unknown.
pub fn differences(before: &[Conditions], now: &[Conditions]) -> Vec<Difference> {
    if before.is_empty() || now.is_empty() {
        return Vec::new();
    }
    let mut all = BTreeMap::<String, [BTreeSet<String>; 2]>::new();
    for (side, conditions) in [before, now].into_iter().enumerate() {
        for (what, value) in conditions.iter().flat_map(Conditions::named) {
            all.entry(what).or_default()[side].insert(value);
        }
    }
    let differ = all.into_iter().filter(|(_, [before, now])| before != now);
    differ.map(|(what, [before, now])| Difference { what, before, now }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named_and_what_nobody_knows_is_not() {
        let with = |settings: &[(&str, &str)]| {
            let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            Conditions::this(settings.iter().map(owned).collect())
        };
        let (three, five) = (
            with(&[("draft_tokens", "3"), ("model", "m")]),
            with(&[("draft_tokens", "5"), ("model", "m")]),
        );
        let told = |before: &[Conditions], now: &[Conditions]| -> Vec<String> {
            differences(before, now).iter().map(Difference::to_string).collect()
        };
        assert_eq!(
            told(std::slice::from_ref(&three), std::slice::from_ref(&five)),
            ["draft_tokens was 3, is 5"]
        );
        assert_eq!(
            told(&[three.clone(), five.clone()], std::slice::from_ref(&five)),
            ["draft_tokens was 3 and 5, is 5"]
        );
        assert_eq!(
            told(std::slice::from_ref(&three), std::slice::from_ref(&three)),
            Vec::<String>::new()
        );
        assert_eq!(told(&[], std::slice::from_ref(&three)), Vec::<String>::new());
        let newer = Conditions { version: "9.9.9".to_owned(), ..with(&[("model", "m")]) };
        let found = told(&[three], &[newer]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0] == "draft_tokens was 3, is not set" && found[1].ends_with("is 9.9.9"),
            "{found:?}"
        );
    }
}
