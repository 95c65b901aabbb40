//! `dwell demo`: the whole line in one command. A daemon on a free port, the built-in agent with the five standard queries,
//! each a run of its own, and the account of where the time went.

mod outcome;
#[cfg(test)]
mod tests;

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use dwell_engine::backend::Backend;
use dwell_probes::host::{Host, ThisProcess};
use dwell_probes::suite::{Query, Suite};
use dwell_probes::time::Stamp;

use self::outcome::Outcome;
use super::at_hand;
use crate::agent::{Agent, Client, Place, local_http};
use crate::backend::load_backend;
use crate::ids;
use crate::ledger::{Event, RunDeclared};
use crate::service::Service;
use crate::settings::{self, EngineArgs, Settings, StoreArgs};
use crate::terminal::demo::{self as screen_of, Asked};
use crate::terminal::{Screen, tell};

/// The suite of the standard queries.
const SUITE: &str = "discrimination";
/// The agent at the root of the demo's runs.
const AGENT: &str = "dwell-demo";

/// What `dwell demo` can be told.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    #[command(flatten)]
    engine: EngineArgs,
    /// Show the result as JSON
    #[arg(long)]
    json: bool,
    /// Keep the daemon running afterwards, until Ctrl-C
    #[arg(long)]
    keep: bool,
}

/// Runs the demo. The exit code is 1 when a query failed or was answered the wrong way.
pub async fn demo(args: &DemoArgs, store: &StoreArgs) -> Result<ExitCode> {
    let settings = Settings::new(settings::any_port(), store, &args.engine)?;
    at_hand(&settings).await?;
    let suite = Suite::built_in(SUITE)?;
    let progress = |text: &str| tell(io::stderr(), text);
    progress(&format!("loading the model ({}) ...", args.engine.engine));
    let began = Instant::now();
    // Ends the open line, so that the reason stands on its own.
    let backend = load(&settings).await.inspect_err(|_| progress(" failed\n"))?;
    let model = backend.models().first().context("the engine serves no model")?.id.clone();
    let service = Service::start(&settings, Some(backend.clone())).await?;
    progress(&screen_of::loaded(&model, began.elapsed(), service.addr));

    let demo = Demo { service: &service, model: &model };
    let mut asked = Vec::new();
    for query in &suite.queries {
        progress(&screen_of::begins(asked.len() + 1, suite.queries.len(), &query.prompt));
        let one = demo.ask(query).await?;
        progress(&screen_of::ends(&one, Screen::stderr()));
        asked.push(one);
    }
    let peak = ThisProcess.peak_resident_bytes();
    let outcome = Outcome::new(asked, peak, backend.peak_memory_bytes());
    let text = if args.json {
        format!("{}\n", serde_json::to_string_pretty(&outcome.to_json())?)
    } else {
        screen_of::result(&outcome.view(), Screen::stdout())
    };
    tell(io::stdout(), &text);
    if args.keep {
        progress(&screen_of::kept(service.addr));
        tokio::signal::ctrl_c().await?;
    }
    service.stop().await;
    Ok(if outcome.all_right() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Loading works the processor for a while; the runtime's threads have other things to do.
async fn load(settings: &Settings) -> Result<Arc<dyn Backend>> {
    let settings = settings.clone();
    let backend = tokio::task::spawn_blocking(move || load_backend(&settings)).await??;
    backend.context("the demo needs a model: leave --engine out, or give a folder with an MLX-format checkpoint")
}

/// What the queries are asked with.
struct Demo<'a> {
    service: &'a Service,
    model: &'a str,
}

impl Demo<'_> {
    /// Asks one query as a run of its own.
    async fn ask(&self, query: &Query) -> Result<Asked> {
        let ledger = &self.service.ledger;
        let run = ids::run_id();
        let place = Place { trace_id: ids::trace_id(), root_span_id: ids::span_id() };
        let base_url = format!("http://{}/r/{run}/v1", self.service.addr);
        // A connection of its own for each run, as separate agents would have.
        let agent = Agent::new(Client::new(local_http()?, &base_url, self.model), ledger.clone());
        ledger.tell(Event::RunDeclared(RunDeclared {
            id: run.clone(),
            trace_id: place.trace_id,
            root_span_id: place.root_span_id,
            agent: AGENT.to_owned(),
            name: Some(query.prompt.clone()),
            started: Stamp::now(),
        }));
        let answer = agent.ask(place, &query.prompt).await;
        ledger.tell(Event::RunEnded { id: run.clone(), ended: Stamp::now() });
        // The daemon has written a call down before it ends the answer, so nothing is missing here.
        let report = ledger.report(&run).await;
        let report = report.with_context(|| format!("the ledger has lost the run {run}"))?;
        Ok(outcome::judge(query, answer, report))
    }
}
