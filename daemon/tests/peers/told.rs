//! One agent under `dwell run`, what it saw itself, and what dwell says about it; and what holds for every such account.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

/// What two readings of the wall clock in two processes may differ by: dwell reads it once and counts on from there.
const CLOCK_NS: u64 = 5_000_000;

/// The question that every agent is asked; the built-in model calls `search_code` for it.
pub(crate) const QUESTION: &str = "Find all uses of InvoiceParser";

/// What the slow tool takes at least.
pub(crate) const TOOL_NS: u64 = 300_000_000;

/// The time between two stamps, in Unix nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) started: u64,
    pub(crate) ended: u64,
}

impl Seen {
    fn of(value: &Value) -> Self {
        let at = |name: &str| value[name].as_u64().unwrap();
        Self { started: at("started"), ended: at("ended") }
    }

    pub(crate) fn ns(self) -> u64 {
        self.ended - self.started
    }
}

/// An agent's run, told by both.
pub(crate) struct Told {
    /// What it answered.
    pub(crate) answer: String,
    /// Its tools by name, and when each ran.
    pub(crate) tools: Vec<(String, Seen)>,
    /// When its client sent requests and had their answers; of streams, their beginnings.
    pub(crate) requests: Vec<Seen>,
    /// From the question to the answer.
    pub(crate) asked: Seen,
    /// dwell's account as data.
    pub(crate) report: Value,
    /// dwell's account as a person sees it.
    pub(crate) shown: String,
}

/// An agent to run.
pub(crate) struct Agent<'a> {
    /// The Python with its library.
    pub(crate) python: &'a Path,
    /// Its script, in `agents/`.
    pub(crate) script: &'a str,
    /// The model that it asks.
    pub(crate) model: &'a str,
    /// What `dwell run` is told.
    pub(crate) options: &'a [&'a str],
}

impl Agent<'_> {
    /// Runs it as its user would, at a home that nothing lies in.
    pub(crate) fn run(&self, flags: &[&str]) -> Told {
        let home = tempfile::tempdir().unwrap();
        let report = home.path().join("report.json");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/agents");
        let mut command = Command::new(env!("CARGO_BIN_EXE_dwell"));
        let foreign = ["OTEL_", "OPENAI_", "ANTHROPIC_", "LANGSMITH_", "LANGCHAIN_", "DWELL_"];
        for (name, _) in std::env::vars() {
            if foreign.iter().any(|prefix| name.starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        command
            .env("HOME", home.path())
            .env("DWELL_DATA_DIR", home.path().join("dwell"))
            .env("NO_COLOR", "1")
            // The scripts lie among the project's sources.
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .args(["run", "--daemon", "none", "--json"])
            .arg(&report)
            .args(self.options)
            .arg("--")
            .arg(self.python)
            .arg(script.join(self.script))
            .args([QUESTION, self.model])
            .args(flags)
            .stdin(Stdio::null());
        let output = command.output().unwrap();
        let shown = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{shown}");
        let printed = String::from_utf8(output.stdout).unwrap();
        let saw: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
        let list = |name: &str| saw[name].as_array().unwrap().clone();
        let named = |tool: &Value| (tool["tool"].as_str().unwrap().to_owned(), Seen::of(tool));
        let told = Told {
            answer: saw["answer"].as_str().unwrap().to_owned(),
            tools: list("tools").iter().map(named).collect(),
            requests: list("requests").iter().map(Seen::of).collect(),
            asked: Seen::of(&saw),
            report: serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap(),
            shown,
        };
        told.check(self.script);
        told
    }
}

impl Told {
    /// Nanoseconds of a category in one of the report's tables.
    pub(crate) fn category(&self, table: &str, category: &str) -> u64 {
        self.report[table][category].as_u64().unwrap()
    }

    /// Nanoseconds of a phase; 0 when it is not told of.
    pub(crate) fn phase(&self, phase: &str) -> u64 {
        self.report["phases"][phase].as_u64().unwrap_or(0)
    }

    fn wall(&self) -> u64 {
        self.report["wall_ns"].as_u64().unwrap()
    }

    fn calls(&self) -> &[Value] {
        self.report["calls"].as_array().unwrap()
    }

    /// How long each of the model calls took, as dwell saw it.
    pub(crate) fn call_times(&self) -> Vec<u64> {
        self.calls().iter().map(|call| call["wall_ns"].as_u64().unwrap()).collect()
    }

    /// What a person would check first, however much the agent tells of itself: one tool was called and its result answered; the
    /// account adds up, names them, counts each once, and lies within what the agent saw.
    fn check(&self, script: &str) {
        let report = format!("{:#}\n{}", self.report, self.shown);
        let sum: u64 = self.report["account"].as_object().unwrap().values().map(ns).sum();
        assert_eq!(sum, self.wall(), "the categories add up to the wall time");
        assert_eq!(
            self.report["account"], self.report["busy"],
            "nothing ran side by side: {report}"
        );
        assert!(!self.answer.is_empty());

        let [(name, _)] = self.tools.as_slice() else { panic!("{:?}", self.tools) };
        let tools = self.report["tools"].as_array().unwrap();
        assert_eq!(tools.len(), 1, "{report}");
        assert_eq!((&tools[0]["name"], &tools[0]["calls"]), (&name.as_str().into(), &1.into()));
        assert_eq!((self.calls().len(), self.requests.len()), (2, 2), "{report}");
        for call in self.calls() {
            assert!(call["error"].is_null(), "{report}");
            assert!(call["input_tokens"].as_u64() > Some(0), "{report}");
            assert!(call["output_tokens"].as_u64() > Some(0), "{report}");
        }

        // The model's time is that of the calls and no more: what is told twice, by server and client, counts once.
        let model = ["generation", "speculation", "queue"].map(|one| self.category("account", one));
        assert!(self.category("account", "generation") > 0);
        let model: u64 = model.iter().sum();
        assert!(model <= self.call_times().iter().sum(), "{report}");
        assert_eq!(
            (self.category("account", "human"), self.category("account", "unknown")),
            (0, 0)
        );

        // Starting Python and its libraries lies before the question, ending them behind the answer.
        let start = started(&self.report, self.asked);
        let first = start + self.phase("startup");
        let last = start + self.wall() - self.phase("shutdown");
        assert!(first + CLOCK_NS >= self.asked.started, "{:?}: {report}", self.asked);
        assert!(last <= self.asked.ended + CLOCK_NS, "{:?}: {report}", self.asked);

        assert!(self.shown.contains(script), "the run is named after its agent: {report}");
        assert!(self.shown.contains(name), "{report}");
        assert!(self.shown.contains("before the first call or tool"), "{report}");
    }

    /// Calls that are answered in one piece lie within the requests that the agent's client sent.
    pub(crate) fn check_requests(&self) {
        let start = started(&self.report, self.asked);
        for (call, request) in self.calls().iter().zip(&self.requests) {
            let came = start + ns(&call["offset_ns"]);
            let left = came + ns(&call["wall_ns"]);
            let within = came + CLOCK_NS >= request.started && left <= request.ended + CLOCK_NS;
            assert!(within, "{came} to {left}, the client saw {request:?}: {:#}", self.report);
        }
    }

    /// The tool's time was reported: it holds what the tool saw and lies between the calls.
    pub(crate) fn check_measured_tool(&self) {
        let (took, truth) = (self.category("account", "tool"), self.tools[0].1.ns());
        assert_eq!(self.category("inferred", "tool"), 0, "{:#}", self.report);
        assert!(took + CLOCK_NS >= truth && truth >= TOOL_NS, "tool {took}, it saw {truth}");
        assert!(took <= self.between_calls(), "{:#}", self.report);
    }

    /// The tool's time was concluded, and says so: from the end of the first call to the second, which holds the tool.
    pub(crate) fn check_inferred_tool(&self) {
        let (took, truth) = (self.category("account", "tool"), self.tools[0].1.ns());
        assert_eq!(self.category("inferred", "tool"), took, "{:#}", self.report);
        assert!(took + CLOCK_NS >= truth && truth >= TOOL_NS, "tool {took}, it saw {truth}");
        assert_eq!(took, self.between_calls(), "{:#}", self.report);
        assert!(self.shown.contains("inferred"), "{}", self.shown);
    }

    /// From the end of the first call to the arrival of the second.
    fn between_calls(&self) -> u64 {
        let [first, second] = self.calls() else { panic!("{:#}", self.report) };
        ns(&second["offset_ns"]) - ns(&first["offset_ns"]) - ns(&first["wall_ns"])
    }
}

fn ns(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

/// When the run began, in Unix nanoseconds: the report has the time of day, the agent saw which day it was.
fn started(report: &Value, asked: Seen) -> u64 {
    const DAY_NS: u64 = 86_400_000_000_000;
    let text = report["run"]["started_at"].as_str().unwrap();
    let (_, time) = text.trim_end_matches('Z').split_once('T').unwrap();
    let parts: Vec<u64> = time.split([':', '.']).map(|part| part.parse().unwrap()).collect();
    let [hours, minutes, seconds, ns] = parts[..] else { panic!("{text}") };
    let of_day = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000_000 + ns;
    let at = asked.started / DAY_NS * DAY_NS + of_day;
    if at > asked.started { at - DAY_NS } else { at }
}
