//! Conversations as clients hold them, by the hashes of their messages: what belongs together comes together, and nothing
//! else does.

mod alike;
mod bounds;

use std::collections::HashMap;

use dwell_probes::call::{Ending, ToolRequest};
use dwell_probes::report::RunReport;
use dwell_probes::span::SpanId;
use dwell_probes::timeline::Timeline;
use dwell_probes::trace::Exchange;
use dwell_wire::conversation::{chain, link_answer, tool_results};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::super::book::Book;
use super::super::{Arrival, Departure, Event, Outlets, Record};
use super::*;

const MS: u64 = 1_000_000;

/// A book that is told of calls, one after the other on a clock of its own.
struct Desk {
    book: Book,
    stored: mpsc::Receiver<Record>,
    now: u64,
    calls: u64,
    joined: HashMap<SpanId, Joined>,
}

/// A call under way: its id and the messages that were asked.
struct Open {
    span_id: SpanId,
    messages: Vec<Value>,
}

impl Desk {
    fn new() -> Self {
        let (store, stored) = mpsc::channel(100_000);
        let book = Book::new(Outlets { store, export: None, metrics: None });
        Self { book, stored, now: 1_700_000_000_000 * MS, calls: 0, joined: HashMap::new() }
    }

    fn tick(&mut self) -> Stamp {
        self.now += MS;
        Stamp(self.now)
    }

    fn ask(&mut self, messages: &[Value], upstream: &str) -> Open {
        self.ask_of(messages, "m", upstream)
    }

    fn ask_of(&mut self, messages: &[Value], model: &str, upstream: &str) -> Open {
        self.calls += 1;
        let span_id = SpanId(self.calls.to_be_bytes());
        let start = self.tick();
        let links = chain(messages);
        let keys = RunKeys { links: links.iter().map(keep).collect(), ..RunKeys::default() };
        let tool_results = tool_results(messages).into_iter().map(str::to_owned).collect();
        self.book.take(Event::Arrival(Box::new(Arrival {
            span_id,
            start,
            model: model.into(),
            upstream: upstream.into(),
            keys,
            told_trace: None,
            tool_results,
        })));
        Open { span_id, messages: messages.to_vec() }
    }

    fn end(&mut self, asked: &Open, answer: Option<&Value>) {
        let end = self.tick();
        let links = chain(&asked.messages);
        let link = answer.zip(links.last()).map(|(answer, last)| link_answer(*last, answer));
        let calls = answer.and_then(|answer| answer["tool_calls"].as_array()).cloned();
        let tool = |call: &Value| ToolRequest {
            id: call["id"].as_str().unwrap_or_default().to_owned(),
            name: "f".to_owned(),
        };
        self.book.take(Event::Departure(Box::new(Departure {
            span_id: asked.span_id,
            end,
            ending: match answer {
                Some(_) => Ending::Answered,
                None => Ending::Failed("overloaded".to_owned()),
            },
            input_tokens: 1,
            output_tokens: 1,
            cached_tokens: 0,
            cache: None,
            reasoning_tokens: 0,
            tools: calls.iter().flatten().map(tool).collect(),
            answer_links: link.iter().map(keep).collect(),
            speculation: None,
            timeline: Timeline::new(),
            http: Exchange::default(),
        })));
    }

    /// Asks and answers at once; the answer becomes part of the messages.
    fn say(&mut self, messages: &mut Vec<Value>, answer: Value) -> SpanId {
        let asked = self.ask(messages, "engine");
        self.end(&asked, Some(&answer));
        messages.push(answer);
        asked.span_id
    }

    /// The run of every call, and how it was found.
    fn runs(&mut self) -> HashMap<SpanId, String> {
        let mut runs = HashMap::new();
        while let Ok(record) = self.stored.try_recv() {
            if let Record::Call { run, call } = record {
                self.joined.insert(call.span_id, call.joined);
                runs.insert(call.span_id, run);
            }
        }
        runs
    }

    fn report(&self, run: &str) -> RunReport {
        self.book.report(run).unwrap()
    }
}

fn keep(link: &dwell_wire::conversation::Link) -> Link {
    Link {
        whole: link.whole(),
        body: link.body(),
        window: link.window(),
        by_model: link.by_model(),
    }
}

fn system(text: &str) -> Value {
    json!({"role": "system", "content": text})
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

fn said(text: &str) -> Value {
    json!({"role": "assistant", "content": text})
}

/// An answer that asks for tools with these ids.
fn asks(ids: &[&str]) -> Value {
    let call = |id: &&str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}});
    json!({"role": "assistant", "content": null, "tool_calls": ids.iter().map(call).collect::<Vec<_>>()})
}

fn result(id: &str) -> Value {
    json!({"role": "tool", "tool_call_id": id, "content": "ok"})
}

/// A conversation of 5 calls, of which the first 4 ask for a tool, in which every call is two steps: asking and ending.
struct Talk {
    messages: Vec<Value>,
    asked: Option<Open>,
    of: (String, &'static str),
    calls: Vec<SpanId>,
    unique_ids: bool,
    number: usize,
}

impl Talk {
    const CALLS: usize = 5;

    fn new(number: usize, unique_ids: bool, same: bool) -> Self {
        let question = if same { "find it".to_owned() } else { format!("find {number}") };
        Self {
            messages: vec![system("be brief"), user(&question)],
            asked: None,
            of: ("m".to_owned(), "engine"),
            calls: Vec::new(),
            unique_ids,
            number,
        }
    }

    fn is_over(&self) -> bool {
        self.asked.is_none() && self.calls.len() == Self::CALLS
    }

    fn step(&mut self, desk: &mut Desk) {
        match self.asked.take() {
            None => {
                let asked = desk.ask_of(&self.messages, &self.of.0, self.of.1);
                self.calls.push(asked.span_id);
                self.asked = Some(asked);
            }
            Some(asked) if self.calls.len() == Self::CALLS => desk.end(&asked, Some(&said("done"))),
            Some(asked) => {
                let turn = self.calls.len();
                let id = if self.unique_ids {
                    format!("call-{}-{turn}", self.number)
                } else {
                    format!("call_{turn}")
                };
                let answer = asks(&[&id]);
                desk.end(&asked, Some(&answer));
                self.messages.extend([answer, result(&id)]);
            }
        }
    }
}

/// Lets the talks take their steps in the order of `picks`, and checks that each is one run of its own.
fn interleave(mut talks: Vec<Talk>, picks: &[usize]) -> Result<(), TestCaseError> {
    let mut desk = Desk::new();
    let mut picks = picks.iter().copied().cycle();
    while talks.iter().any(|talk| !talk.is_over()) {
        let open: Vec<usize> = (0..talks.len()).filter(|&at| !talks[at].is_over()).collect();
        let pick = open[picks.next().unwrap_or_default() % open.len()];
        talks[pick].step(&mut desk);
    }
    let runs = desk.runs();
    let mut seen = HashSet::new();
    for talk in &talks {
        let of: HashSet<&String> = talk.calls.iter().map(|call| &runs[call]).collect();
        prop_assert_eq!(of.len(), 1, "a talk is one run");
        let run = of.into_iter().next().unwrap();
        prop_assert!(seen.insert(run.clone()), "and shares it with none");
        prop_assert_eq!(desk.report(run).calls.len(), Talk::CALLS);
    }
    Ok(())
}

#[test]
fn a_hundred_interleaved_conversations_of_five_turns_are_a_hundred_runs() {
    for unique_ids in [true, false] {
        let talks = (0..100).map(|number| Talk::new(number, unique_ids, false)).collect();
        let picks: Vec<usize> = (0..7919).map(|step| step * 104_729 % 7919).collect();
        interleave(talks, &picks).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn conversations_stay_apart_in_any_order(
        picks in prop::collection::vec(0..1000_usize, 1..200), talks in 2..12_usize, unique_ids: bool
    ) {
        interleave((0..talks).map(|number| Talk::new(number, unique_ids, false)).collect(), &picks)?;
    }

    #[test]
    fn conversations_that_say_the_same_at_once_are_as_many_runs_of_all_their_calls(
        picks in prop::collection::vec(0..1000_usize, 1..200), talks in 2..6_usize
    ) {
        let mut desk = Desk::new();
        let mut all: Vec<Talk> = (0..talks).map(|number| Talk::new(number, false, true)).collect();
        let mut picks = picks.iter().copied().cycle();
        while all.iter().any(|talk| !talk.is_over()) {
            let open: Vec<usize> = (0..talks).filter(|&at| !all[at].is_over()).collect();
            let pick = open[picks.next().unwrap_or_default() % open.len()];
            all[pick].step(&mut desk);
        }
        let mut sizes: HashMap<String, usize> = HashMap::new();
        for run in desk.runs().into_values() {
            *sizes.entry(run).or_default() += 1;
        }
        // From outside nobody can tell whose call is whose, but each run has the calls of one conversation.
        prop_assert_eq!(sizes.len(), talks);
        prop_assert!(sizes.values().all(|&calls| calls == Talk::CALLS), "{:?}", sizes);
    }
}

#[test]
fn a_system_prompt_may_be_written_anew_for_every_call() {
    let mut desk = Desk::new();
    let mut messages = vec![system("it is noon"), user("find it")];
    let first = desk.say(&mut messages, asks(&["a"]));
    messages.push(result("a"));
    messages[0] = system("it is a minute past noon");
    let second = desk.say(&mut messages, asks(&["b"]));
    messages.push(result("b"));
    messages.remove(0);
    let third = desk.say(&mut messages, said("here"));
    let runs = desk.runs();
    assert!(runs[&first] == runs[&second] && runs[&second] == runs[&third]);
    assert_eq!(desk.joined[&first], Joined::Began);
    assert_eq!((desk.joined[&second], desk.joined[&third]), (Joined::Edited, Joined::Edited));
}

#[test]
fn a_history_may_be_trimmed_or_summed_up_as_long_as_its_end_is_there() {
    let mut desk = Desk::new();
    let mut messages = vec![system("be brief"), user("find it")];
    let mut calls = Vec::new();
    for id in ["a", "b", "c"] {
        calls.push(desk.say(&mut messages, asks(&[id])));
        messages.push(result(id));
    }
    // The client keeps the last exchange only.
    let mut trimmed = vec![messages[0].clone()];
    trimmed.extend_from_slice(&messages[5..]);
    calls.push(desk.say(&mut trimmed, asks(&["d"])));
    trimmed.push(result("d"));
    // Later it sums up what was said.
    let mut summed_up = vec![messages[0].clone(), user("So far: nothing was found.")];
    summed_up.extend_from_slice(&trimmed[trimmed.len() - 3..]);
    calls.push(desk.say(&mut summed_up, said("here")));
    let runs = desk.runs();
    assert!(calls.iter().all(|call| runs[call] == runs[&calls[0]]), "{runs:?}");
    assert_eq!(desk.joined[&calls[3]], Joined::Trimmed);
    assert_eq!(desk.joined[&calls[4]], Joined::Trimmed);
}

#[test]
fn an_answer_may_be_rewritten_as_long_as_its_tool_calls_are_there() {
    let mut desk = Desk::new();
    let mut messages = vec![system("be brief"), user("find it")];
    let first = desk.say(&mut messages, asks(&["a", "b"]));
    let mut rewritten = asks(&["a", "b"]);
    rewritten["content"] = json!("I shall look.");
    let mut messages = vec![user("find it, please"), rewritten, result("a"), result("b")];
    let second = desk.say(&mut messages, said("here"));
    let runs = desk.runs();
    assert_eq!(runs[&first], runs[&second]);
    assert_eq!(desk.joined[&second], Joined::Rewritten);
}

#[test]
fn a_history_that_nobody_saw_is_said_to_be_unknown() {
    let mut desk = Desk::new();
    let mut elsewhere = vec![user("find it"), asks(&["x"]), result("x")];
    let call = desk.say(&mut elsewhere, said("here"));
    let mut summary = vec![user("So far we found nothing. Go on.")];
    let fresh = desk.say(&mut summary, said("yes"));
    let runs = desk.runs();
    assert_ne!(runs[&call], runs[&fresh]);
    assert_eq!(desk.joined[&call], Joined::Unknown);
    assert_eq!(desk.joined[&fresh], Joined::Began, "nothing shows that anything came before");
}

#[test]
fn ends_that_look_alike_in_two_runs_are_no_evidence() {
    let mut desk = Desk::new();
    for question in ["find this", "find that"] {
        let mut messages = vec![user(question), said("hm"), user("go on")];
        desk.say(&mut messages, asks(&["call_0"]));
    }
    let mut trimmed = vec![user("go on"), asks(&["call_0"]), result("call_0")];
    let call = desk.say(&mut trimmed, said("here"));
    let runs = desk.runs();
    assert_eq!(runs.values().collect::<HashSet<_>>().len(), 3, "{runs:?}");
    assert_eq!(desk.joined[&call], Joined::Unknown);
}

#[test]
fn an_example_in_a_prompt_is_not_taken_for_the_end_of_a_conversation() {
    let mut desk = Desk::new();
    let mut messages = vec![user("find it")];
    let first = desk.say(&mut messages, asks(&["a"]));
    // The same exchange stands before another that nobody saw.
    let mut other = vec![user("an example:"), user("find it"), asks(&["a"]), result("a")];
    other.extend([said("found"), user("now find that")]);
    let second = desk.say(&mut other, said("here"));
    let runs = desk.runs();
    assert_ne!(runs[&first], runs[&second]);
    assert_eq!(desk.joined[&second], Joined::Unknown);
}

#[test]
fn tools_at_once_share_one_interval_by_their_calls_ids() {
    let mut desk = Desk::new();
    let mut messages = vec![user("find it")];
    let call = desk.say(&mut messages, asks(&["a", "b", "c"]));
    desk.now += 50 * MS;
    // Results in another order, and the same function all three times.
    messages.extend([result("c"), result("a"), result("b")]);
    desk.say(&mut messages, said("here"));
    let run = desk.runs()[&call].clone();
    let report = desk.report(&run);
    assert_eq!(report.tools.len(), 1);
    assert_eq!((report.tools[0].calls, report.tools[0].inferred), (3, true));
    assert_eq!(report.tools[0].wall_ns, 51 * MS, "from the answer's end to the next request");
    assert_eq!(report.account.total(), report.wall_ns);
}

#[test]
fn a_request_that_failed_is_sent_again_in_the_same_run() {
    let mut desk = Desk::new();
    let mut messages = vec![user("find it")];
    let failed = desk.ask(&messages, "engine");
    desk.end(&failed, None);
    let again = desk.say(&mut messages, asks(&["a"]));
    messages.push(result("a"));
    let failed_later = desk.ask(&messages, "engine");
    desk.end(&failed_later, None);
    let last = desk.say(&mut messages, said("here"));
    let runs = desk.runs();
    for call in [again, failed_later.span_id, last] {
        assert_eq!(runs[&call], runs[&failed.span_id]);
    }
    assert_eq!((desk.joined[&again], desk.joined[&last]), (Joined::Retried, Joined::Retried));
    // Long after it is another try.
    let other = desk.ask(&[user("find that")], "engine");
    desk.end(&other, None);
    desk.now += RETRY_NS;
    let late = desk.ask(&[user("find that")], "engine");
    let runs = desk.runs();
    assert_ne!(runs[&other.span_id], runs[&late.span_id]);
}

#[test]
fn branches_of_a_conversation_are_its_run_and_said_to_be_branches() {
    let mut desk = Desk::new();
    let mut messages = vec![user("find it")];
    let first = desk.say(&mut messages, asks(&["a", "b"]));
    messages.extend([result("a"), result("b")]);
    // Two sub-agents start from the whole conversation with a task of their own.
    let branch = |task: &str| {
        let mut branch = messages.clone();
        branch.push(user(task));
        branch
    };
    let one = desk.say(&mut branch("look here"), said("nothing"));
    let two = desk.say(&mut branch("look there"), said("nothing"));
    let runs = desk.runs();
    assert!(runs[&first] == runs[&one] && runs[&one] == runs[&two]);
    assert_eq!((desk.joined[&one], desk.joined[&two]), (Joined::Continued, Joined::Forked));
}

#[test]
fn a_run_may_ask_two_upstreams() {
    let mut desk = Desk::new();
    let mut messages = vec![user("find it")];
    let mut calls = Vec::new();
    for (id, upstream) in [("a", "ollama"), ("b", "cloud"), ("c", "ollama")] {
        let asked = desk.ask(&messages, upstream);
        desk.end(&asked, Some(&asks(&[id])));
        messages.extend([asks(&[id]), result(id)]);
        calls.push(asked.span_id);
    }
    let runs = desk.runs();
    assert!(calls.iter().all(|call| runs[call] == runs[&calls[0]]));
    let report = desk.report(&runs[&calls[0]]);
    let upstreams: Vec<&str> = report.calls.iter().map(|call| call.upstream.as_str()).collect();
    assert_eq!(upstreams, ["ollama", "cloud", "ollama"]);
}

#[test]
fn a_run_that_was_given_up_does_not_get_the_calls_of_the_next() {
    let mut desk = Desk::new();
    let mut given_up = vec![user("find it")];
    let old = desk.say(&mut given_up, asks(&["call_0"]));
    let mut messages = vec![user("find it")];
    let first = desk.say(&mut messages, asks(&["call_0"]));
    messages.push(result("call_0"));
    let second = desk.say(&mut messages, said("here"));
    let runs = desk.runs();
    assert_eq!(runs[&first], runs[&second]);
    assert_ne!(runs[&old], runs[&first]);
}

#[test]
fn a_trace_of_one_request_s_own_does_not_tear_a_conversation_apart() {
    let keys = |links: &[Link], trace: u8| RunKeys {
        parent: Some((TraceId([trace; 16]), SpanId([9; 8]))),
        links: links.to_vec(),
        ..RunKeys::default()
    };
    let link = |number: u128| Link { whole: number, body: number, window: number, by_model: true };
    let tail = |run: &str| Tail {
        asked: Asked::default(),
        question: None,
        run: run.into(),
        conversation: "c".into(),
        asked_for_tools: true,
    };
    let mut stitch = Stitch::default();
    stitch.remember_trace(TraceId([1; 16]), "first");
    stitch.remember_tail(vec![link(2)], Vec::new(), tail("first"));
    let next = [link(1), link(2), link(3)];
    let (place, joined) = stitch.place(&keys(&next, 5), &Asked::default(), &[], Stamp(0));
    assert_eq!((place, joined), (Place::Continues("first".into()), Joined::Continued));
    stitch.remember_trace(TraceId([5; 16]), "other");
    let (place, _) = stitch.place(&keys(&next, 5), &Asked::default(), &[], Stamp(0));
    assert_eq!(place, Place::Traced(TraceId([5; 16])), "a trace that is known is stronger");
    let named = RunKeys { run: Some("mine".into()), ..keys(&next, 5) };
    assert_eq!(
        stitch.place(&named, &Asked::default(), &[], Stamp(0)).0,
        Place::Named("mine".into())
    );
}
