//! The built-in agent on the built-in models, as `dwell demo` runs it: a daemon of its own, asked the standard questions in turn, each a
//! run.

use std::net::SocketAddr;
use std::path::Path;

use dwell::agent::{Agent, Client, Place, local_http};
use dwell::backend::load_backend;
use dwell::ids;
use dwell::ledger::{Event, RunDeclared};
use dwell::service::Service;
use dwell::settings::{EngineChoice, Settings};
use dwell_probes::suite::Suite;
use dwell_probes::time::Stamp;

/// The agent's name in its runs.
pub(crate) const BUILT_IN: &str = "built-in";

/// The daemon and the questions.
pub(crate) struct Agents {
    service: Service,
    model: String,
    questions: Suite,
}

impl Agents {
    /// A daemon with the built-in models, with these variables.
    pub(crate) async fn new(folder: &Path, env: &(dyn Fn(&str) -> Option<String> + Sync)) -> Self {
        let engine = EngineChoice::BuiltIn { draft: true };
        let settings = Settings { engine, ..Settings::alone(folder.join("agents")) };
        let backend = load_backend(&settings).unwrap().unwrap();
        let model = backend.models()[0].id.clone();
        let service = Service::start_in(&settings, Some(backend), env).await.unwrap();
        Self { service, model, questions: Suite::built_in("discrimination").unwrap() }
    }

    /// Where the daemon listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.service.addr
    }

    /// Asks the question whose turn it is; returns the run's trace where a tool was used.
    pub(crate) async fn ask(&self, turn: usize) -> Option<String> {
        let query = &self.questions.queries[turn % self.questions.queries.len()];
        let (ledger, run) = (&self.service.ledger, ids::run_id());
        let place = Place { trace_id: ids::trace_id(), root_span_id: ids::span_id() };
        let url = format!("http://{}/r/{run}/v1", self.service.addr);
        let client = Client::new(local_http().unwrap(), &url, &self.model);
        ledger.tell(Event::RunDeclared(RunDeclared {
            id: run.clone(),
            trace_id: place.trace_id,
            root_span_id: place.root_span_id,
            agent: BUILT_IN.to_owned(),
            name: None,
            started: Stamp::now(),
        }));
        let answer = Agent::new(client, ledger.clone()).ask(place, &query.prompt).await.unwrap();
        assert!(answer.finished, "{}", query.prompt);
        ledger.tell(Event::RunEnded { id: run, ended: Stamp::now() });
        (!answer.tools.is_empty()).then(|| place.trace_id.to_string())
    }

    /// Stops the daemon.
    pub(crate) async fn stop(self) {
        self.service.stop().await;
    }
}
