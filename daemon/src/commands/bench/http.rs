//! What recording costs: two daemons on the same engine, one with and one without phases, asked over HTTP in turns.

use std::sync::Arc;

use anyhow::{Context, Result};
use dwell_engine::backend::Backend;
use dwell_probes::time::Stamp;
use serde_json::json;

use super::BenchArgs;
use super::prompts::Prompt;
use super::result::Tracing;
use crate::agent::{Client, local_http};
use crate::ids;
use crate::service::Service;
use crate::settings::{Settings, any_port};

/// Asks every prompt of both daemons in every round. The one that is asked first changes each time.
pub(super) async fn tracing_costs(
    backend: &Arc<dyn Backend>,
    settings: &Settings,
    prompts: &[Prompt],
    args: &BenchArgs,
) -> Result<Tracing> {
    let model = backend.models().first().context("the engine serves no model")?.id.clone();
    let on = Daemon::start(backend, settings, &model, true).await?;
    let off = Daemon::start(backend, settings, &model, false).await?;
    let mut tracing = Tracing::default();
    let mut on_first = false;
    for round in 0..args.rounds {
        for prompt in prompts {
            on_first = !on_first;
            // Different marks, so that neither finds the other's prompt in the engine's cache.
            let (mark_on, mark_off) = (prompt.marked(2 * round + 1000), prompt.marked(2 * round + 1001));
            let (first, second) = if on_first {
                let first = on.ask(&mark_on, args.max_tokens).await?;
                (first, off.ask(&mark_off, args.max_tokens).await?)
            } else {
                let second = off.ask(&mark_off, args.max_tokens).await?;
                (on.ask(&mark_on, args.max_tokens).await?, second)
            };
            tracing.add(first, second);
        }
    }
    on.stop().await?;
    off.stop().await?;
    Ok(tracing)
}

/// A daemon for the bench alone, with a store that is removed afterwards.
struct Daemon {
    service: Service,
    client: Client,
    folder: std::path::PathBuf,
}

impl Daemon {
    async fn start(
        backend: &Arc<dyn Backend>,
        settings: &Settings,
        model: &str,
        tracing: bool,
    ) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("dwell-bench-{}", ids::span_id()));
        let settings =
            Settings { listen: any_port(), data_dir: folder.clone(), tracing, ..settings.clone() };
        let service = Service::start(&settings, Some(Arc::clone(backend))).await?;
        let client = Client::new(local_http()?, &format!("http://{}/v1", service.addr), model);
        Ok(Self { service, client, folder })
    }

    /// Tokens of the answer and nanoseconds until its last byte.
    async fn ask(&self, prompt: &Prompt, max_tokens: u32) -> Result<(u64, u64)> {
        let body = json!({
            "messages": prompt.messages,
            "tools": prompt.tools,
            "temperature": 0,
            "max_tokens": max_tokens,
        });
        let start = Stamp::now();
        let answer = self.client.chat(body, ids::trace_id(), ids::span_id()).await?;
        let ns = Stamp::now().since(start);
        let usage = answer.usage.context("the daemon gave no usage")?;
        Ok((usage.completion_tokens, ns))
    }

    async fn stop(self) -> Result<()> {
        self.service.stop().await;
        std::fs::remove_dir_all(&self.folder)
            .with_context(|| format!("cannot remove {}", self.folder.display()))
    }
}
