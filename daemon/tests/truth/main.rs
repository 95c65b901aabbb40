//! Accounts against known truth: random scripts of agents and of model servers, lived through over real sockets with a daemon
//! between them, and held against what both measured of themselves.
//!
//! Everything shares one thread. A machine that is busy with other things then makes all of them late together, so that what
//! is measured here stays what the daemon could measure.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agent;
mod many;
mod script;
mod truth;
mod upstream;

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::Path;

use dwell::service::Service;
use dwell::settings::{Settings, Upstreams};
use dwell::store::Reader;
use dwell_probes::category::Category;
use dwell_probes::report::RunReport;
use dwell_probes::time::Stamp;
use futures_util::StreamExt as _;

use agent::Agent;
use script::{Script, Telling};
use truth::{Expected, expected};

/// Scripts, and how many are lived through at once.
const SCRIPTS: u64 = 240;
const AT_ONCE: usize = 16;

/// How far an account may be from the truth: so many nanoseconds or one part in so many, whichever is more.
const CLOSE_NS: u64 = 5_000_000;
const CLOSE_PART: u64 = 100;

/// A daemon that keeps its runs in that folder and relays to a server of two names.
async fn daemon(folder: &Path, server: std::net::SocketAddr) -> Service {
    let config = format!(
        "[upstreams.one]\nurl = \"http://{server}\"\n[upstreams.two]\nurl = \"http://{server}\"\n"
    );
    let settings = Settings {
        upstreams: Upstreams::parse(&config, &|_| None).unwrap(),
        ..Settings::alone(folder.to_owned())
    };
    Service::start(&settings, None).await.unwrap()
}

/// All runs, once the daemon has written them down and stopped.
async fn runs(service: Service, folder: &Path) -> Vec<RunReport> {
    assert_eq!(service.ledger.dropped(), [], "nothing may be lost here");
    service.stop().await;
    let mut runs = Vec::new();
    let note = |run| {
        runs.push(run);
        ControlFlow::Continue(())
    };
    Reader::open(folder).unwrap().each(Stamp(0), note).unwrap();
    runs
}

#[tokio::test]
async fn accounts_of_random_scripts_are_what_agents_and_servers_measured() {
    let folder = tempfile::tempdir().unwrap();
    let (server, book) = upstream::start().await;
    let service = daemon(folder.path(), server).await;
    let base = format!("http://{}", service.addr);
    let client = reqwest::Client::new();
    let lives = (0..SCRIPTS).map(|number| {
        let (client, base, book) = (client.clone(), base.clone(), book.clone());
        let agent = Agent { script: Script::new(number), client, base, book, next: 0.into() };
        async move {
            let seen = agent.live().await;
            let found = expected(agent.script.telling, &agent.run(), &agent.trace(), &seen);
            (agent.script, found)
        }
    });
    let lived: Vec<(Script, Vec<Expected>)> =
        futures_util::stream::iter(lives).buffer_unordered(AT_ONCE).collect().await;
    let reports = runs(service, folder.path()).await;
    let by_id: HashMap<&str, &RunReport> =
        reports.iter().map(|report| (report.run.id.as_str(), report)).collect();
    let by_model: HashMap<&str, &RunReport> = reports
        .iter()
        .flat_map(|report| report.calls.iter().map(move |call| (call.model.as_str(), report)))
        .collect();
    let mut known = 0;
    let mut wrong = Vec::new();
    for (script, runs) in &lived {
        let mut conversations = HashSet::new();
        for run in runs {
            let report = match &run.id {
                Some(id) => by_id.get(id.as_str()),
                None => by_model.get(run.models[0].as_str()),
            };
            known += 1;
            if let Some(report) = report.filter(|_| run.outer) {
                conversations.insert(&report.run.conversation);
            }
            let problems = match report {
                Some(report) => differences(script.telling, run, report),
                None => vec!["there is no such run".to_owned()],
            };
            if !problems.is_empty() {
                wrong.push(format!(
                    "script {}, {:?}, run {:?}: {}",
                    script.number,
                    script.telling,
                    run.id,
                    problems.join("; ")
                ));
            }
        }
        if conversations.len() > 1 {
            wrong.push(format!("script {} is torn into {conversations:?}", script.number));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {known} accounts are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert_eq!(reports.len(), known, "there are no other runs");
}

/// How a report differs from what it has to be.
fn differences(telling: Telling, run: &Expected, report: &RunReport) -> Vec<String> {
    let mut found = Vec::new();
    let mut hold = |holds: bool, what: String| {
        if !holds {
            found.push(what);
        }
    };
    let sum = report.account.total();
    hold(sum == report.wall_ns, format!("{sum} ns do not add up to {}", report.wall_ns));
    let models: HashSet<&str> = report.calls.iter().map(|call| call.model.as_str()).collect();
    let planned: HashSet<&str> = run.models.iter().map(String::as_str).collect();
    hold(models == planned, format!("calls of {models:?} instead of {planned:?}"));
    hold(report.calls.len() == run.calls, format!("{} of {} calls", report.calls.len(), run.calls));
    let tools: u64 = report.tools.iter().map(|tool| tool.calls).sum();
    hold(tools == run.tools, format!("{tools} of {} tools", run.tools));
    for category in Category::ALL {
        let sides = || run.accounts.iter().map(|account| account[category]);
        let (low, high) = (sides().min().unwrap(), sides().max().unwrap());
        let close = CLOSE_NS.max(high / CLOSE_PART);
        let told = report.account[category];
        let holds = told + close >= low && told <= high + close;
        let ms = |ns: u64| ns as f64 / 1e6;
        hold(
            holds,
            format!(
                "{} {:.3} ms, not {:.3} to {:.3}",
                category.name(),
                ms(told),
                ms(low),
                ms(high)
            ),
        );
    }
    // Nothing inferred may look measured, nor the other way round.
    let inferred = report.inferred;
    let spans = matches!(telling, Telling::Spans { .. });
    let tool = if spans { 0 } else { report.account[Category::Tool] };
    hold(
        inferred[Category::Tool] == tool,
        format!("{} of {tool} ns of tool inferred", inferred[Category::Tool]),
    );
    if run.told {
        let generation = inferred[Category::Generation];
        hold(generation == 0, format!("{generation} ns of generation inferred"));
    }
    found
}
