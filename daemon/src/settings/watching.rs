//! How runs are watched and who is told when they become slower: the table `[watch]` of `dwell.toml` as values with meaning.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::UpstreamArgs;
use super::upstreams::{FILE, Key, key};

/// How runs are watched.
#[derive(Clone, Debug, PartialEq)]
pub struct Watching {
    /// Whether they are.
    pub on: bool,
    /// The relative shift of a median that is to be found quickly.
    pub least: f64,
    /// Who is told by a message as Alertmanager's webhook receiver sends it.
    pub webhook: Option<String>,
    /// An Alertmanager that takes alerts.
    pub alertmanager: Option<String>,
    /// A Grafana that takes annotations.
    pub grafana: Option<Grafana>,
    /// How often an Alertmanager is told again what lasts.
    pub repeat: Duration,
}

impl Default for Watching {
    fn default() -> Self {
        let repeat = Duration::from_secs(60);
        Self { on: true, least: 0.1, webhook: None, alertmanager: None, grafana: None, repeat }
    }
}

/// A Grafana.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grafana {
    /// Its address.
    pub url: String,
    /// A service account's token.
    pub token: Option<Key>,
}

/// The table as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileWatch {
    enabled: Option<bool>,
    min_effect: Option<f64>,
    webhook: Option<String>,
    alertmanager: Option<String>,
    grafana: Option<FileGrafana>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileGrafana {
    url: String,
    token_env: Option<String>,
}

impl Watching {
    /// What the file asks for that the flags name.
    pub fn read(args: &UpstreamArgs, env: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let path = args.config.as_deref().unwrap_or(Path::new(FILE));
        if args.config.is_none() && !path.is_file() {
            return Ok(Self::default());
        }
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text, env).with_context(|| format!("in {}", path.display()))
    }

    /// What a file's text asks for.
    pub fn parse(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        /// The other tables are read by others.
        #[derive(Deserialize)]
        struct File {
            #[serde(default)]
            watch: FileWatch,
        }
        let FileWatch { enabled, min_effect, webhook, alertmanager, grafana } =
            toml::from_str::<File>(text)?.watch;
        let per_cent = min_effect.unwrap_or(10.0);
        ensure!(per_cent > 0.0 && per_cent <= 1000.0, "watch.min_effect is in per cent, above 0");
        let url = |name: &str, url: Option<String>| -> Result<Option<String>> {
            if let Some(url) = &url {
                let known = url.starts_with("http://") || url.starts_with("https://");
                ensure!(known, "watch.{name} begins with neither http:// nor https://");
            }
            Ok(url.map(|url| url.trim_end_matches('/').to_owned()))
        };
        let grafana = grafana.map(|grafana| {
            let token = grafana.token_env.as_deref().map(|variable| key("Grafana", variable, env));
            let at = url("grafana.url", Some(grafana.url))?.unwrap_or_default();
            anyhow::Ok(Grafana { url: at, token: token.transpose()? })
        });
        Ok(Self {
            on: enabled.unwrap_or(true),
            least: per_cent / 100.0,
            webhook: url("webhook", webhook)?,
            alertmanager: url("alertmanager", alertmanager)?,
            grafana: grafana.transpose()?,
            ..Self::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_who_is_told() {
        let text = "[upstreams.a]\nurl = \"http://a\"\n[watch]\nmin_effect = 5\nwebhook = \"http://h/x/\"\n[watch.grafana]\nurl = \"http://g\"\ntoken_env = \"T\"\n";
        let env = |name: &str| (name == "T").then(|| "secret".to_owned());
        let read = Watching::parse(text, &env).unwrap();
        assert_eq!((read.least, read.webhook.as_deref()), (0.05, Some("http://h/x")));
        let grafana = read.grafana.unwrap();
        assert_eq!((grafana.url.as_str(), grafana.token.unwrap().reveal()), ("http://g", "secret"));
        assert_eq!(Watching::parse("", &env).unwrap(), Watching::default());
        for wrong in ["min_effect = 0", "webhook = \"ftp://x\"", "sound = true"] {
            assert!(Watching::parse(&format!("[watch]\n{wrong}"), &env).is_err(), "{wrong}");
        }
        let unset = Watching::parse(text, &|_| None).unwrap_err();
        assert!(format!("{unset:#}").contains('T'), "{unset:#}");
    }
}
