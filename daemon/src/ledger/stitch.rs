//! Which run a call belongs to: the caller's word first, then its trace, then the conversation itself. A conversation is known
//! by the answers that a request holds; what clients do to it on the way (a system prompt written anew, a beginning dropped or
//! summed up, a request sent again) is recognised, and what is not recognised is said to be unknown.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;

use dwell_probes::call::Joined;
use dwell_probes::span::TraceId;
use dwell_probes::time::Stamp;

use super::event::{Link, RunKeys};

/// Answers that may still be continued. Beyond it the oldest are forgotten, and their next request starts a new run.
const TAILS: usize = 20_000;

/// Answers that look alike and may each be continued; of more the oldest cannot be told from the others.
const ALIKE: usize = 256;

/// Requests without an answer that may be sent again, and for how long.
const UNANSWERED: usize = 2000;
const RETRY_NS: u64 = 300_000_000_000;

/// Who was asked: conversations that say the same are told apart by it where it differs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// The model that the request named.
    pub(super) model: String,
    /// Who was to answer.
    pub(super) upstream: String,
}

impl Asked {
    /// In how much another request was asked of somebody else.
    fn differs(&self, other: &Self) -> u8 {
        u8::from(self.model != other.model) + u8::from(self.upstream != other.upstream)
    }
}

/// The end of a conversation as we last saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    /// Who gave the answer.
    pub(super) asked: Asked,
    /// The whole request that it answers.
    pub(super) question: Option<u128>,
    /// The run of the answer.
    pub(super) run: String,
    /// The conversation, over all of its runs.
    pub(super) conversation: String,
    /// Whether the answer asked for tools, which leaves the run open.
    pub(super) asked_for_tools: bool,
}

/// Where a call belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A run with this id, known or not: its caller named it.
    Named(String),
    /// The run that this trace belongs to, known or not.
    Traced(TraceId),
    /// The run whose tool calls this request answers.
    Continues(String),
    /// A new run; of a conversation that had runs before, when it extends one.
    New {
        /// The conversation that it extends.
        conversation: Option<String>,
    },
}

/// A tail, how often it was continued, and under what it is found.
#[derive(Debug)]
struct Answer {
    tail: Tail,
    continued: u32,
    links: Vec<Link>,
    tools: Vec<String>,
}

/// A request that failed.
#[derive(Debug)]
struct Unanswered {
    run: String,
    asked: Asked,
    at: Stamp,
}

/// The conversations' ends, the traces' runs, and requests that nobody answered.
#[derive(Debug, Default)]
pub(super) struct Stitch {
    /// Numbered in the order in which they were given.
    answers: HashMap<u64, Answer>,
    order: VecDeque<u64>,
    next: u64,
    by_whole: Index<u128>,
    by_body: Index<u128>,
    by_window: Index<u128>,
    by_question: Index<u128>,
    by_tool_call: Index<String>,
    unanswered: HashMap<u128, Vec<Unanswered>>,
    unanswered_order: VecDeque<u128>,
    traces: HashMap<TraceId, String>,
    traces_of: HashMap<String, Vec<TraceId>>,
}

/// The answers found under a key, oldest first.
type Index<K> = HashMap<K, VecDeque<u64>>;

impl Stitch {
    /// Where a call with these keys belongs that was asked of `asked` at `at` and brings these tool results, and how that was
    /// found.
    pub(super) fn place(
        &mut self,
        keys: &RunKeys,
        asked: &Asked,
        tool_results: &[String],
        at: Stamp,
    ) -> (Place, Joined) {
        if let Some(run) = &keys.run {
            return (Place::Named(run.clone()), Joined::Named);
        }
        if let Some((trace_id, _)) = keys.parent {
            // A trace that nobody knows may be this one request's own, where a client begins one for each.
            if !self.traces.contains_key(&trace_id)
                && let (Place::Continues(run), joined) =
                    self.by_conversation(keys, asked, tool_results, at)
            {
                return (Place::Continues(run), joined);
            }
            return (Place::Traced(trace_id), Joined::Traced);
        }
        if let Some(name) = &keys.baggage {
            return (Place::Named(name.clone()), Joined::Traced);
        }
        self.by_conversation(keys, asked, tool_results, at)
    }

    fn by_conversation(
        &mut self,
        keys: &RunKeys,
        asked: &Asked,
        tool_results: &[String],
        at: Stamp,
    ) -> (Place, Joined) {
        let before = self.answer_before(&keys.links, asked, tool_results);
        let answered = before.and_then(|(number, _)| self.answers.get(&number));
        // Somebody else may be asked when one failed, but then this is not the next request of who always asks them.
        let goes_on = answered.is_some_and(|answer| answer.tail.asked == *asked);
        if let Some(run) = self.asked_again(keys, asked, at, goes_on) {
            return (Place::Continues(run), Joined::Retried);
        }
        let Some((number, joined)) = before else {
            let (_, history) =
                keys.links.split_last().map_or((None, &[][..]), |(l, h)| (Some(l), h));
            // What goes on from a request without its answer had that and what followed left out or summed up.
            let summed_up = |link: &Link| self.by_question.contains_key(&link.whole);
            let unknown = !tool_results.is_empty()
                || history.iter().any(|link| link.by_model || summed_up(link));
            let joined = if unknown { Joined::Unknown } else { Joined::Began };
            return (Place::New { conversation: None }, joined);
        };
        let Some(answer) = self.answers.get_mut(&number) else {
            return (Place::New { conversation: None }, Joined::Unknown);
        };
        answer.continued += 1;
        let joined = if answer.continued > 1 { Joined::Forked } else { joined };
        if answer.tail.asked_for_tools {
            (Place::Continues(answer.tail.run.clone()), joined)
        } else {
            (Place::New { conversation: Some(answer.tail.conversation.clone()) }, joined)
        }
    }

    /// The run of the same request, when it failed a moment ago: best where the same was asked, and only there when the
    /// request goes on from an answer of theirs.
    fn asked_again(
        &mut self,
        keys: &RunKeys,
        asked: &Asked,
        at: Stamp,
        goes_on: bool,
    ) -> Option<String> {
        let last = keys.links.last()?.whole;
        let failed = self.unanswered.get_mut(&last)?;
        let fits =
            |one: &Unanswered| at.since(one.at) <= RETRY_NS && !(goes_on && one.asked != *asked);
        let fitting = failed.iter().enumerate().filter(|(_, one)| fits(one));
        let (best, _) = fitting.min_by_key(|(_, one)| asked.differs(&one.asked))?;
        let run = failed.remove(best).run;
        if failed.is_empty() {
            self.unanswered.remove(&last);
        }
        if let Some(place) = self.unanswered_order.iter().position(|known| *known == last) {
            self.unanswered_order.remove(place);
        }
        Some(run)
    }

    /// The latest answer that the request goes on from. The last link is the request itself, which no answer can have ended
    /// in.
    fn answer_before(
        &self,
        links: &[Link],
        asked: &Asked,
        tool_results: &[String],
    ) -> Option<(u64, Joined)> {
        // The end of a history shows only where it ends: further up it may be an example.
        let mut shows_end = true;
        for link in links.iter().rev().skip(1) {
            let best = |numbers| self.best(numbers, asked);
            let whole = best(self.by_whole.get(&link.whole)).map(|n| (n, Joined::Continued));
            let body = || best(self.by_body.get(&link.body)).map(|n| (n, Joined::Edited));
            let by_window = || self.only(self.by_window.get(&link.window), asked);
            let window =
                || by_window().filter(|_| shows_end && link.by_model).map(|n| (n, Joined::Trimmed));
            if let Some(found) = whole.or_else(body).or_else(window) {
                return Some(found);
            }
            shows_end &= !link.by_model;
        }
        let mut tools = tool_results.iter().map(|id| self.only(self.by_tool_call.get(id), asked));
        let first = tools.next()??;
        let same =
            |other: Option<u64>| other.is_some_and(|other| self.run(other) == self.run(first));
        tools.all(same).then_some((first, Joined::Rewritten))
    }

    /// Of answers that look alike one that was given by who is asked now, of those the one that was continued least, and then
    /// the latest: two conversations that say the same are each continued once, and what was given up long ago is left alone.
    fn best(&self, numbers: Option<&VecDeque<u64>>, asked: &Asked) -> Option<u64> {
        let rank = |number: &u64| {
            let known = self.answers.get(number);
            known.map(|answer| (asked.differs(&answer.tail.asked), answer.continued))
        };
        numbers?.iter().copied().min_by_key(|number| (rank(number), Reverse(*number)))
    }

    /// The best answer where all that look alike are of one run. Weaker evidence must not mix two.
    fn only(&self, numbers: Option<&VecDeque<u64>>, asked: &Asked) -> Option<u64> {
        let runs: HashSet<_> = numbers?.iter().map(|&number| self.run(number)).collect();
        if runs.len() == 1 { self.best(numbers, asked) } else { None }
    }

    fn run(&self, number: u64) -> Option<&str> {
        self.answers.get(&number).map(|answer| answer.tail.run.as_str())
    }

    /// Remembers where an answer ended, and the tools that it asked for.
    pub(super) fn remember_tail(&mut self, links: Vec<Link>, tools: Vec<String>, tail: Tail) {
        if links.is_empty() && tools.is_empty() {
            return;
        }
        let number = self.next;
        self.next += 1;
        for link in &links {
            remember(&mut self.by_whole, link.whole, number);
            remember(&mut self.by_body, link.body, number);
            remember(&mut self.by_window, link.window, number);
        }
        if let Some(question) = tail.question {
            remember(&mut self.by_question, question, number);
        }
        for tool in &tools {
            remember(&mut self.by_tool_call, tool.clone(), number);
        }
        self.answers.insert(number, Answer { tail, continued: 0, links, tools });
        self.order.push_back(number);
        while self.order.len() > TAILS {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(number) = self.order.pop_front() else { return };
        let Some(answer) = self.answers.remove(&number) else { return };
        for link in &answer.links {
            forget(&mut self.by_whole, &link.whole, number);
            forget(&mut self.by_body, &link.body, number);
            forget(&mut self.by_window, &link.window, number);
        }
        if let Some(question) = answer.tail.question {
            forget(&mut self.by_question, &question, number);
        }
        for tool in &answer.tools {
            forget(&mut self.by_tool_call, tool, number);
        }
    }

    /// Remembers that a request of the run got no answer, so that the same one may come again.
    pub(super) fn remember_unanswered(&mut self, link: Link, run: &str, asked: Asked, at: Stamp) {
        let failed = self.unanswered.entry(link.whole).or_default();
        failed.push(Unanswered { run: run.to_owned(), asked, at });
        self.unanswered_order.push_back(link.whole);
        if self.unanswered_order.len() > UNANSWERED
            && let Some(oldest) = self.unanswered_order.pop_front()
            && let Entry::Occupied(mut alike) = self.unanswered.entry(oldest)
        {
            alike.get_mut().remove(0);
            if alike.get().is_empty() {
                alike.remove();
            }
        }
    }

    /// The run that this trace belongs to.
    pub(super) fn run_of_trace(&self, trace_id: TraceId) -> Option<&str> {
        self.traces.get(&trace_id).map(String::as_str)
    }

    /// Remembers which run a trace belongs to; the first word stands.
    pub(super) fn remember_trace(&mut self, trace_id: TraceId, run: &str) {
        if let Entry::Vacant(place) = self.traces.entry(trace_id) {
            place.insert(run.to_owned());
            self.traces_of.entry(run.to_owned()).or_default().push(trace_id);
        }
    }

    /// Forgets a run that has left memory.
    pub(super) fn forget(&mut self, run: &str) {
        for trace_id in self.traces_of.remove(run).unwrap_or_default() {
            self.traces.remove(&trace_id);
        }
    }
}

fn remember<K: Hash + Eq>(index: &mut Index<K>, key: K, number: u64) {
    let numbers = index.entry(key).or_default();
    if numbers.len() >= ALIKE {
        numbers.pop_front();
    }
    numbers.push_back(number);
}

/// Forgets the oldest answer of all, which stands first wherever it is found.
fn forget<K: Hash + Eq>(index: &mut Index<K>, key: &K, number: u64) {
    if let Some(numbers) = index.get_mut(key) {
        if numbers.front() == Some(&number) {
            numbers.pop_front();
        }
        if numbers.is_empty() {
            index.remove(key);
        }
    }
}

#[cfg(test)]
mod tests;
