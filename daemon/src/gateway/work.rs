//! What the engine took, as the figures that ride beside an answer.

use dwell_engine::backend::Outcome;
use dwell_probes::phase::Phase;
use dwell_probes::time::Stamp;
use dwell_probes::timeline::{Entry, Timeline};
use dwell_wire::extension::Work;

/// The figures of a finished call that was handed to the engine at `submitted` and done at `done`. Prefill and decoding are the
/// sums of what was measured; where phases were not kept they are the times before and after the first token.
pub(super) fn work(outcome: &Outcome, submitted: Stamp, done: Stamp) -> Work {
    let timeline = &outcome.timeline;
    let queue_ns = total(timeline, |entry| entry.phase == Phase::Queue);
    let first = timeline.first_token().unwrap_or(done);
    let rounds_ns: u64 = timeline.rounds().iter().map(|round| round.end.since(round.start)).sum();
    let prefill_ns = total(timeline, |entry| {
        matches!(entry.phase, Phase::CacheLookup | Phase::Prefill | Phase::DraftPrefill)
    });
    let steps_ns = total(timeline, |entry| entry.phase == Phase::Decode && entry.round.is_none());
    let or = |measured: u64, else_ns: u64| if measured > 0 { measured } else { else_ns };
    let drafted = outcome.speculation.is_some() && timeline.is_on();
    let phase_ns = |phase: Phase| drafted.then(|| total(timeline, |entry| entry.phase == phase));
    Work {
        prompt_tokens: outcome.prompt_tokens.into(),
        cached_tokens: outcome.cached_tokens.into(),
        output_tokens: outcome.output_tokens.into(),
        queue_ns,
        prompt_ns: or(prefill_ns, first.since(submitted).saturating_sub(queue_ns)),
        predicted_ns: or(rounds_ns + steps_ns, done.since(first)),
        speculation: outcome.speculation.clone(),
        draft_ns: phase_ns(Phase::Draft),
        verify_ns: phase_ns(Phase::Verify),
    }
}

fn total(timeline: &Timeline, counts: impl Fn(&Entry) -> bool) -> u64 {
    let entries = timeline.entries().iter().filter(|entry| counts(entry));
    entries.map(|entry| entry.end.since(entry.start)).sum()
}

#[cfg(test)]
mod tests {
    use dwell_engine::backend::Finish;
    use dwell_probes::cache::CacheUse;
    use dwell_probes::speculation::{DraftSource, Speculation};
    use dwell_probes::timeline::{Round, Timing};

    use super::*;

    fn outcome(timeline: Timeline, speculation: Option<Speculation>) -> Outcome {
        Outcome {
            finish: Ok(Finish::Stop),
            prompt_tokens: 30,
            cached_tokens: 10,
            cache: CacheUse::default(),
            output_tokens: 7,
            reasoning_tokens: 0,
            timeline,
            speculation,
        }
    }

    #[test]
    fn rounds_and_single_steps_are_decoding() {
        let mut timeline = Timeline::new();
        timeline.record(Phase::Queue, Stamp(0), Stamp(100));
        timeline.record(Phase::CacheLookup, Stamp(100), Stamp(110));
        timeline.record(Phase::Prefill, Stamp(110), Stamp(300));
        timeline.record(Phase::DraftPrefill, Stamp(300), Stamp(350));
        timeline.mark_first_token(Stamp(400));
        let round = Round {
            start: Stamp(400),
            end: Stamp(500),
            drafted: 3,
            accepted: 1,
            source: DraftSource::Model,
        };
        let index = timeline.push_round(round);
        for (phase, start, end) in [(Phase::Draft, 400, 440), (Phase::Verify, 440, 490)] {
            let (start, end) = (Stamp(start), Stamp(end));
            timeline.push(Entry { phase, start, end, timing: Timing::Exact, round: index });
        }
        timeline.record(Phase::Decode, Stamp(500), Stamp(530));
        let speculation = Some(Speculation::default());
        let work = work(&outcome(timeline, speculation), Stamp(0), Stamp(900));
        assert_eq!((work.queue_ns, work.prompt_ns, work.predicted_ns), (100, 250, 130));
        assert_eq!((work.draft_ns, work.verify_ns), (Some(40), Some(50)));
        assert_eq!((work.prompt_tokens, work.cached_tokens, work.output_tokens), (30, 10, 7));
    }

    #[test]
    fn without_phases_the_first_token_parts_the_time() {
        let mut timeline = Timeline::off();
        timeline.mark_first_token(Stamp(400));
        let work = work(&outcome(timeline, Some(Speculation::default())), Stamp(100), Stamp(900));
        assert_eq!((work.queue_ns, work.prompt_ns, work.predicted_ns), (0, 300, 500));
        assert_eq!((work.draft_ns, work.verify_ns), (None, None));
    }
}
