//! Which run a call belongs to: the caller's word first, then its trace, then the conversation itself.

use std::collections::{HashMap, VecDeque};

use dwell_probes::span::TraceId;

use super::event::RunKeys;

/// Conversations that may still be continued. Beyond it the oldest are forgotten, and their next request starts a new run.
const TAILS: usize = 20_000;

/// The end of a conversation as we last saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tail {
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

/// The conversations' ends and the traces' runs.
#[derive(Debug, Default)]
pub(super) struct Stitch {
    tails: HashMap<u64, Tail>,
    order: VecDeque<u64>,
    traces: HashMap<TraceId, String>,
}

impl Stitch {
    /// Where a call with these keys belongs.
    pub(super) fn place(&self, keys: &RunKeys) -> Place {
        if let Some(run) = &keys.run {
            return Place::Named(run.clone());
        }
        if let Some((trace_id, _)) = keys.parent {
            return Place::Traced(trace_id);
        }
        if let Some(name) = &keys.baggage {
            return Place::Named(name.clone());
        }
        // The longest known beginning wins: a fork of a conversation shares the shorter ones. The last link is the request
        // itself, which no answer can have ended in.
        let mut beginnings = keys.links.iter().rev().skip(1);
        match beginnings.find_map(|link| self.tails.get(link)) {
            Some(tail) if tail.asked_for_tools => Place::Continues(tail.run.clone()),
            Some(tail) => Place::New { conversation: Some(tail.conversation.clone()) },
            None => Place::New { conversation: None },
        }
    }

    /// Remembers where an answer ended.
    pub(super) fn remember_tail(&mut self, link: u64, tail: Tail) {
        if self.tails.insert(link, tail).is_none() {
            self.order.push_back(link);
        }
        while self.order.len() > TAILS {
            if let Some(oldest) = self.order.pop_front() {
                self.tails.remove(&oldest);
            }
        }
    }

    /// The run that this trace belongs to.
    pub(super) fn run_of_trace(&self, trace_id: TraceId) -> Option<&str> {
        self.traces.get(&trace_id).map(String::as_str)
    }

    /// Remembers which run a trace belongs to; the first word stands.
    pub(super) fn remember_trace(&mut self, trace_id: TraceId, run: &str) {
        self.traces.entry(trace_id).or_insert_with(|| run.to_owned());
    }

    /// Forgets a run that has left memory.
    pub(super) fn forget(&mut self, run: &str) {
        self.traces.retain(|_, known| known != run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(run: &str, asked_for_tools: bool) -> Tail {
        Tail { run: run.into(), conversation: "c".into(), asked_for_tools }
    }

    fn links(links: &[u64]) -> RunKeys {
        RunKeys { links: links.to_vec(), ..RunKeys::default() }
    }

    #[test]
    fn an_answer_that_asked_for_tools_is_continued_and_a_finished_one_is_not() {
        let mut stitch = Stitch::default();
        stitch.remember_tail(3, tail("tools", true));
        stitch.remember_tail(7, tail("done", false));
        assert_eq!(stitch.place(&links(&[1, 2, 3, 4])), Place::Continues("tools".into()));
        assert_eq!(
            stitch.place(&links(&[5, 6, 7, 8])),
            Place::New { conversation: Some("c".into()) }
        );
        assert_eq!(stitch.place(&links(&[1, 2, 9])), Place::New { conversation: None });
    }

    #[test]
    fn the_longest_beginning_wins() {
        let mut stitch = Stitch::default();
        stitch.remember_tail(1, tail("short", true));
        stitch.remember_tail(2, tail("long", true));
        assert_eq!(stitch.place(&links(&[1, 2, 3])), Place::Continues("long".into()));
    }

    #[test]
    fn the_callers_word_is_stronger_than_the_trace_and_the_trace_than_the_conversation() {
        let mut stitch = Stitch::default();
        stitch.remember_tail(1, tail("chain", true));
        let parent = Some((TraceId([1; 16]), dwell_probes::span::SpanId([2; 8])));
        let mut keys = RunKeys { parent, links: vec![1, 2], ..RunKeys::default() };
        assert_eq!(stitch.place(&keys), Place::Traced(TraceId([1; 16])));
        keys.run = Some("mine".into());
        assert_eq!(stitch.place(&keys), Place::Named("mine".into()));
    }

    #[test]
    fn old_conversations_are_forgotten() {
        let mut stitch = Stitch::default();
        for link in 0..=TAILS as u64 {
            stitch.remember_tail(link, tail("r", true));
        }
        assert_eq!(stitch.place(&links(&[0, 99])), Place::New { conversation: None });
        assert_eq!(stitch.place(&links(&[1, 99])), Place::Continues("r".into()));
    }
}
