//! The daemon that a run reports to: the one that is running already, or one for this run alone.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use dwell_probes::report::RunReport;
use dwell_probes::span::{SpanId, TraceId};
use dwell_probes::time::Stamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::agent::local_http;
use crate::backend::load_backend;
use crate::commands::at_hand;
use crate::service::Service;
use crate::settings::{
    self, EngineArgs, Otlp, OtlpArgs, PORT, Settings, StoreArgs, UpstreamArgs, Upstreams,
};

/// A daemon on this machine that does not answer within this time is no use to a run.
const PATIENCE: Duration = Duration::from_secs(2);
/// Making the account of a long run may take a moment.
const ACCOUNT_PATIENCE: Duration = Duration::from_secs(20);

/// A daemon, running or our own.
#[derive(Debug)]
pub(super) struct Daemon {
    url: String,
    http: reqwest::Client,
    own: Option<Service>,
    /// Whether it relays to model servers.
    pub(super) relays: bool,
    /// The MCP servers that it relays.
    pub(super) mcp: Vec<String>,
}

/// The body of `POST /api/runs`.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Declaration {
    /// The run's id.
    pub(super) id: String,
    /// Its trace.
    pub(super) trace_id: TraceId,
    /// Its root span.
    pub(super) root_span_id: SpanId,
    /// Who runs.
    pub(super) agent: String,
    /// What a person calls it.
    pub(super) name: Option<String>,
    /// When it began.
    pub(super) started_at: Stamp,
}

/// What of `GET /healthz` tells a dwell from other servers.
#[derive(Deserialize)]
struct Health {
    #[expect(dead_code, reason = "its presence is what is looked for")]
    version: String,
    #[expect(dead_code, reason = "its presence is what is looked for")]
    models: Vec<String>,
    #[serde(default)]
    upstreams: Vec<String>,
    #[serde(default)]
    mcp: Vec<String>,
}

impl Daemon {
    /// The daemon at `asked`; without one, the running daemon on the usual port; else, and for `none`, one of our own.
    pub(super) async fn find_or_start(
        asked: Option<&str>,
        store: &StoreArgs,
        engine: &EngineArgs,
        upstreams: &UpstreamArgs,
    ) -> Result<Self> {
        let http = local_http()?;
        match asked {
            Some("none") => return Self::start(http, store, engine, upstreams).await,
            // A daemon that runs has upstreams of its own.
            None if !upstreams.upstreams.is_empty()
                || !upstreams.mcp.is_empty()
                || upstreams.config.is_some() =>
            {
                return Self::start(http, store, engine, upstreams).await;
            }
            Some(url) => {
                let url = normal_url(url);
                return match health(&http, &url).await {
                    Ok(health) => Ok(Self::running(url, http, health)),
                    Err(error) => bail!(
                        "no dwell answers at {url} ({error:#}): start it with `dwell serve`, or leave --daemon out"
                    ),
                };
            }
            None => {}
        }
        let url = format!("http://127.0.0.1:{PORT}");
        match health(&http, &url).await {
            Ok(health) => Ok(Self::running(url, http, health)),
            Err(error) => {
                tracing::info!("no dwell answers at {url} ({error:#}): starting one for this run");
                Self::start(http, store, engine, upstreams).await
            }
        }
    }

    fn running(url: String, http: reqwest::Client, health: Health) -> Self {
        Self { url, http, own: None, relays: !health.upstreams.is_empty(), mcp: health.mcp }
    }

    async fn start(
        http: reqwest::Client,
        store: &StoreArgs,
        engine: &EngineArgs,
        upstreams: &UpstreamArgs,
    ) -> Result<Self> {
        let file = upstreams;
        let upstreams = Upstreams::read(file, &|name| std::env::var(name).ok())?;
        let otlp = Otlp::read(&OtlpArgs::default(), file)?;
        let settings =
            Settings { upstreams, otlp, ..Settings::new(settings::any_port(), store, engine)? };
        at_hand(&settings).await?;
        let backend = load_backend(&settings)?;
        let service = Service::start(&settings, backend).await?;
        Ok(Self {
            url: format!("http://{}", service.addr),
            http,
            own: Some(service),
            relays: !settings.upstreams.list.is_empty(),
            mcp: settings.upstreams.mcp.into_iter().map(|server| server.name).collect(),
        })
    }

    /// Its address, without a slash at the end.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Tells it that a run begins.
    pub(super) async fn declare(&self, declaration: &Declaration) -> Result<()> {
        let url = format!("{}/api/runs", self.url);
        let request = self.http.post(&url).timeout(PATIENCE).json(declaration);
        request.send().await?.error_for_status().context("the daemon refused the run")?;
        Ok(())
    }

    /// Tells it that a run is over, and asks for its account.
    pub(super) async fn end(&self, run: &str, ended: Stamp) -> Result<RunReport> {
        let url = format!("{}/api/runs/{run}/end", self.url);
        let request =
            self.http.post(&url).timeout(ACCOUNT_PATIENCE).json(&json!({ "ended_at": ended }));
        let response = request.send().await.map_err(reqwest::Error::without_url)?;
        Ok(response.error_for_status().map_err(reqwest::Error::without_url)?.json().await?)
    }

    /// Stops it when it is our own.
    pub(super) async fn stop(self) {
        if let Some(service) = self.own {
            service.stop().await;
        }
    }
}

async fn health(http: &reqwest::Client, url: &str) -> Result<Health> {
    let request = http.get(format!("{url}/healthz")).timeout(PATIENCE);
    let response = request.send().await.map_err(reqwest::Error::without_url)?;
    let response = response.error_for_status().map_err(reqwest::Error::without_url)?;
    response.json().await.context("something else listens there")
}

/// An address with its scheme and without slashes at the end: `127.0.0.1:7070` is enough.
fn normal_url(url: &str) -> String {
    let url = url.trim_end_matches('/');
    if url.contains("://") { url.to_owned() } else { format!("http://{url}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_be_short() {
        assert_eq!(normal_url("127.0.0.1:7070"), "http://127.0.0.1:7070");
        assert_eq!(normal_url("http://127.0.0.1:7070//"), "http://127.0.0.1:7070");
    }
}
