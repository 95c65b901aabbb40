//! What recording costs: two daemons on the same engine, one with and one without phases, asked over HTTP in turns.

use std::sync::Arc;

use anyhow::{Context, Result};
use dwell_engine::backend::Backend;
use dwell_probes::time::Stamp;
use serde_json::json;

use super::prompts::Prompt;
use super::result::Tracing;
use crate::agent::{Client, local_http};
use crate::ids;
use crate::service::Service;
use crate::settings::{Settings, any_port};

/// For each round of the bench so many here: the difference that is looked for is small.
const ROUNDS: u32 = 4;

/// Asks every prompt of both daemons in every round; which daemon is first changes each time.
pub(super) async fn tracing_costs(
    backend: &Arc<dyn Backend>,
    settings: &Settings,
    prompts: &[Prompt],
    (rounds, max_tokens): (u32, u32),
) -> Result<Tracing> {
    let model = backend.models().first().context("the engine serves no model")?.id.clone();
    let on = Daemon::start(backend, settings, &model, true).await?;
    let off = Daemon::start(backend, settings, &model, false).await?;
    let mut tracing = Tracing::new();
    for round in 0..rounds.saturating_mul(ROUNDS) {
        let marked: Vec<Prompt> = prompts.iter().map(|prompt| prompt.marked(round)).collect();
        let (with, without) = if round.is_multiple_of(2) {
            let with = on.ask_all(&marked, max_tokens).await?;
            (with, off.ask_all(&marked, max_tokens).await?)
        } else {
            let without = off.ask_all(&marked, max_tokens).await?;
            (on.ask_all(&marked, max_tokens).await?, without)
        };
        with.into_iter().zip(without).for_each(|(with, without)| tracing.add(with, without));
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

    async fn ask_all(&self, prompts: &[Prompt], max_tokens: u32) -> Result<Vec<(u64, u64)>> {
        let mut answers = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            answers.push(self.ask(prompt, max_tokens).await?);
        }
        Ok(answers)
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
