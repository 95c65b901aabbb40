//! The scripted agent: lives through its script against a daemon, and remembers by its own clock when it did what.

use std::pin::Pin;

use dwell_probes::time::Stamp;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::script::{Ask, Script, Task, Telling, Tool, Turn};
use super::upstream::{Book, Served, pass, tool_calls, word};

/// What an interval was.
#[derive(Clone, Debug)]
pub(crate) enum What {
    Agent,
    Tool,
    Human,
    /// A model call: its plan, what the server measured, and when its first bytes came.
    Call {
        plan: Box<Ask>,
        served: Served,
        first: Stamp,
    },
}

/// An interval as the agent saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) what: What,
    pub(crate) id: u64,
    pub(crate) start: Stamp,
    pub(crate) end: Stamp,
    pub(crate) parts: Vec<Seen>,
    /// The model's name, by which an agent's calls are known again.
    pub(crate) model: String,
}

/// What an agent needs to live.
pub(crate) struct Agent {
    pub(crate) script: Script,
    pub(crate) client: reqwest::Client,
    pub(crate) base: String,
    pub(crate) book: Book,
    pub(crate) next: std::cell::Cell<u64>,
}

type Living<'a> = Pin<Box<dyn Future<Output = Seen> + 'a>>;

impl Agent {
    /// The run's name, for those who name it.
    pub(crate) fn run(&self) -> String {
        format!("truth-{}", self.script.number)
    }

    pub(crate) fn trace(&self) -> String {
        format!("{:032x}", u128::from(self.script.number) + (1 << 100))
    }

    fn id(&self) -> u64 {
        self.next.set(self.next.get() + 1);
        (self.script.number << 32) + self.next.get()
    }

    /// Lives through all tasks, then reports its spans when it is one that does. One tree for each task.
    pub(crate) async fn live(&self) -> Vec<Seen> {
        let mut messages = vec![json!({"role": "system", "content": "be brief"})];
        let mut seen = Vec::new();
        for (index, task) in self.script.tasks.iter().enumerate() {
            if index > 0 {
                pass(self.script.between).await;
            }
            let question = format!("task {index} of {}", self.script.number);
            messages.push(json!({"role": "user", "content": question}));
            seen.push(self.work(task, &mut messages).await);
        }
        if let Telling::Spans { traced, calls } = self.script.telling {
            self.report(&seen, traced, calls).await;
        }
        seen
    }

    fn work<'a>(&'a self, task: &'a Task, messages: &'a mut Vec<Value>) -> Living<'a> {
        Box::pin(async move {
            let id = self.id();
            let model = format!("m-{}-{id:x}", self.script.number);
            let start = Stamp::now();
            let mut parts = Vec::new();
            for turn in &task.turns {
                self.turn(turn, messages, &model, &mut parts).await;
            }
            let end = Stamp::now();
            Seen { what: What::Agent, id, start, end, parts, model }
        })
    }

    async fn turn(
        &self,
        turn: &Turn,
        messages: &mut Vec<Value>,
        model: &str,
        parts: &mut Vec<Seen>,
    ) {
        pass(turn.think).await;
        if let Some(back_off) = turn.back_off {
            let refuses = Ask { refuses: true, ..turn.ask.clone() };
            parts.push(self.call(refuses, messages, model).await);
            pass(back_off).await;
        }
        let mut ask = turn.ask.clone();
        ask.tools = turn.tools.iter().map(|_| format!("call-{:x}", self.id())).collect();
        let content: String = (0..ask.tokens).map(word).collect();
        let mut answer = json!({"role": "assistant", "content": content});
        if !ask.tools.is_empty() {
            answer["tool_calls"] = json!(tool_calls(&ask));
        }
        let result = |id: &String| json!({"role": "tool", "tool_call_id": id, "content": "done"});
        let mut results: Vec<Value> = ask.tools.iter().map(result).collect();
        // Whoever is ready first may be told first.
        results.reverse();
        parts.push(self.call(ask, messages, model).await);
        parts.extend(join_all(turn.tools.iter().map(|tool| self.tool(tool))).await);
        messages.push(answer);
        messages.extend(results);
    }

    async fn tool(&self, tool: &Tool) -> Seen {
        let id = self.id();
        let start = Stamp::now();
        let mut parts = Vec::new();
        if tool.human > 0 {
            let (id, start) = (self.id(), Stamp::now());
            let end = pass(tool.human).await;
            parts.push(Seen {
                what: What::Human,
                id,
                start,
                end,
                parts: vec![],
                model: String::new(),
            });
        }
        pass(tool.work).await;
        if let Some(task) = &tool.agent {
            let question = format!("a part of {}, {id:x}", self.script.number);
            let mut messages = vec![json!({"role": "user", "content": question})];
            parts.push(self.work(task, &mut messages).await);
        }
        Seen { what: What::Tool, id, start, end: Stamp::now(), parts, model: String::new() }
    }

    async fn call(&self, plan: Ask, messages: &[Value], model: &str) -> Seen {
        let id = self.id();
        let plan = Box::new(Ask { key: format!("{id:x}"), ..plan });
        let run = match self.script.telling {
            Telling::Named | Telling::Spans { traced: false, .. } => format!("/r/{}", self.run()),
            _ => String::new(),
        };
        let url = format!("{}{run}/u/{}/v1/chat/completions", self.base, plan.upstream);
        let body =
            json!({"model": model, "stream": plan.stream, "messages": messages, "plan": plan});
        let mut request = self.client.post(url).json(&body);
        if let Telling::Spans { traced: true, .. } = self.script.telling {
            request = request.header("traceparent", format!("00-{}-{id:016x}-01", self.trace()));
        }
        let request = request.build().unwrap();
        let start = Stamp::now();
        let mut response = self.client.execute(request).await.unwrap();
        let mut first = None;
        while response.chunk().await.unwrap().is_some() {
            first.get_or_insert_with(Stamp::now);
        }
        let end = Stamp::now();
        let served = self.book.lock().unwrap().remove(&plan.key).unwrap();
        let what = What::Call { plan, served, first: first.unwrap_or(end) };
        Seen { what, id, start, end, parts: vec![], model: model.to_owned() }
    }

    /// Sends its spans, children before parents, out of order, some of them twice.
    async fn report(&self, seen: &[Seen], traced: bool, calls: bool) {
        let mut spans = Vec::new();
        for tree in seen {
            self.spans(tree, None, calls, &mut spans);
        }
        let mut rng = fastrand::Rng::with_seed(self.script.number);
        rng.shuffle(&mut spans);
        let path = if traced { String::new() } else { format!("/r/{}", self.run()) };
        let url = format!("{}{path}/v1/traces", self.base);
        let mut batches: Vec<&[Value]> = spans.chunks(rng.usize(1..=spans.len())).collect();
        batches.extend(spans.chunks(3).next());
        for batch in batches {
            let body = json!({"resourceSpans": [{"scopeSpans": [{"spans": batch}]}]});
            let answer = self.client.post(&url).json(&body).send().await.unwrap();
            assert_eq!(answer.status(), 200);
        }
    }

    fn spans(&self, seen: &Seen, parent: Option<u64>, calls: bool, to: &mut Vec<Value>) {
        let (name, kind, key, value) = match seen.what {
            What::Agent => ("invoke_agent scripted", 1, "gen_ai.operation.name", "invoke_agent"),
            What::Tool => ("execute_tool work", 1, "gen_ai.operation.name", "execute_tool"),
            What::Human => ("approval", 1, "dwell.class", "human"),
            What::Call { .. } => ("chat m", 3, "gen_ai.operation.name", "chat"),
        };
        for part in &seen.parts {
            self.spans(part, Some(seen.id), calls, to);
        }
        if calls || !matches!(seen.what, What::Call { .. }) {
            to.push(json!({
                "traceId": self.trace(),
                "spanId": format!("{:016x}", seen.id),
                "parentSpanId": parent.map_or_else(String::new, |id| format!("{id:016x}")),
                "name": name, "kind": kind,
                "startTimeUnixNano": seen.start.0.to_string(),
                "endTimeUnixNano": seen.end.0.to_string(),
                "attributes": [{"key": key, "value": {"stringValue": value}}],
            }));
        }
    }
}
