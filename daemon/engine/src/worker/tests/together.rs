//! Calls that take turns: short ones do not wait for long ones, none sees anything of another, and the wait for a turn is
//! told.

use dwell_probes::timeline::Entry;

use super::*;

/// Memory in which one conversation of the toy pair fits, but not two.
const ROOM_FOR_ONE: u64 = 200_000;

/// First and last moment of a call's work, the wait for its first turn not counted.
fn span(outcome: &Outcome) -> (Stamp, Stamp) {
    let entries = outcome.timeline.entries();
    (entries[0].end, entries.iter().map(|entry| entry.end).max().unwrap())
}

fn waits(outcome: &Outcome) -> Vec<Entry> {
    let entries = outcome.timeline.entries().iter();
    entries.filter(|entry| entry.phase == Phase::Queue).copied().collect()
}

#[test]
fn a_short_call_does_not_wait_for_the_end_of_a_long_one() {
    let bench = Bench::new(41);
    bench.run_beside(|conversation, fresh| {
        let mut random = Random(1);
        for drafted in [0, 3] {
            let long = Asked::new(&prompt(&mut random, 60), drafted, 80);
            let short = Asked::new(&prompt(&mut random, 20), drafted, 4);
            let asked = [long.clone(), short.clone()];
            let answers = bench.ask_all(conversation, 2, &asked);
            let [(long_text, long_outcome), (short_text, short_outcome)] = &answers[..] else {
                panic!("two were asked");
            };
            assert!(span(short_outcome).1 < span(long_outcome).1);
            assert_eq!(*long_text, bench.ask(fresh, &long).0);
            assert_eq!(*short_text, bench.ask(fresh, &short).0);
            // While one had its turn, the other waited and says so; together they leave nothing out and tell nothing twice.
            assert!(waits(long_outcome).len() > 2 && waits(short_outcome).len() > 2);
            let work = |outcome: &Outcome| {
                let entries = outcome.timeline.entries().iter();
                entries.filter(|e| e.phase != Phase::Queue).copied().collect::<Vec<_>>()
            };
            let mut all = [work(long_outcome), work(short_outcome)].concat();
            all.sort_by_key(|entry| (entry.start, entry.end));
            assert_eq!(all.windows(2).find(|pair| pair[0].end > pair[1].start), None);
            for outcome in [long_outcome, short_outcome] {
                let mut own = outcome.timeline.entries().to_vec();
                own.sort_by_key(|entry| (entry.start, entry.end));
                assert_eq!(own.windows(2).find(|pair| pair[0].end > pair[1].start), None);
            }
            // One after the other, the short one waits once, to the long one's end.
            let answers = bench.ask_all(conversation, 1, &asked);
            assert!(span(&answers[0].1).1 <= span(&answers[1].1).0);
            assert_eq!((waits(&answers[0].1).len(), waits(&answers[1].1).len()), (1, 1));
        }
    });
}

#[test]
fn calls_that_do_not_fit_together_wait() {
    let mut bench = Bench::new(42);
    bench.kv_bytes = Some(ROOM_FOR_ONE);
    bench.run(|conversation| {
        let mut random = Random(2);
        let asked: Vec<Asked> =
            (0..3).map(|_| Asked::new(&prompt(&mut random, 40), 2, 20)).collect();
        let answers = bench.ask_all(conversation, 3, &asked);
        for pair in answers.windows(2) {
            assert!(span(&pair[0].1).1 <= span(&pair[1].1).0, "in the order of their arrival");
        }
        assert!(conversation.bytes() + conversation.other_bytes() <= ROOM_FOR_ONE);
    });
}

#[test]
fn a_call_begins_with_what_another_under_way_has_run() {
    let bench = Bench::new(43);
    bench.run_beside(|conversation, fresh| {
        let mut random = Random(3);
        let head = prompt(&mut random, 100);
        let asked: Vec<Asked> =
            (0..3).map(|n| Asked::new(&[&head[..], &[n, n]].concat(), 2, 30)).collect();
        let answers = bench.ask_all(conversation, 3, &asked);
        let cached: Vec<u32> = answers.iter().map(|(_, outcome)| outcome.cached_tokens).collect();
        assert_eq!(cached, [0, 100, 100]);
        for (asked, (text, _)) in asked.iter().zip(&answers) {
            assert_eq!(*text, bench.ask(fresh, asked).0);
        }
    });
}

#[test]
fn a_prompt_that_is_still_read_serves_as_far_as_it_was_run() {
    let bench = Bench::new(45);
    bench.run_beside(|conversation, fresh| {
        let head = prompt(&mut Random(5), 600);
        let asked: Vec<Asked> =
            (0..2).map(|n| Asked::new(&[&head[..], &[n]].concat(), 1, 6)).collect();
        let answers = bench.ask_all(conversation, 2, &asked);
        // One chunk was read when the second call had its first turn.
        assert_eq!(answers[1].1.cached_tokens, 128);
        for (asked, (text, _)) in asked.iter().zip(&answers) {
            assert_eq!(*text, bench.ask(fresh, asked).0);
        }
    });
}

#[test]
fn a_turn_runs_ahead_only_while_no_other_call_waits() {
    let bench = Bench::new(46);
    bench.run(|conversation| {
        // Of a sampled answer: likeliest tokens may be computed at once, and then there is nothing to run ahead of.
        let mut asked = Asked::new(&prompt(&mut Random(6), 20), 0, 9);
        asked.sampling = Sampling { temperature: 1.0, seed: Some(1), ..Sampling::GREEDY };
        let (job, reader) = bench.call(&asked);
        let mut call = job.call;
        let mut rounds = Rounds::new(Pace::new(4.0, 1.0, vec![4.0]));
        let mut turn = |alone, conversation: &mut Conversation| {
            assert_eq!(call.turn(conversation, &mut rounds, alone).unwrap(), None);
            conversation.target.len() - (conversation.tokens().len() - 1)
        };
        assert_eq!(turn(true, conversation), 0, "the prompt");
        assert_eq!(turn(false, conversation), 0);
        assert_eq!(turn(true, conversation), 1, "one row ahead");
        assert_eq!(turn(false, conversation), 0, "it was caught up with");
        drop(call);
        assert!(reader.join().unwrap().outcome.finish.is_err());
    });
}

#[test]
fn a_call_that_fails_does_not_touch_the_others() {
    let bench = Bench::new(44);
    bench.run_beside(|conversation, fresh| {
        let mut random = Random(4);
        let asked: Vec<Asked> =
            (0..2).map(|_| Asked::new(&prompt(&mut random, 30), 0, 20)).collect();
        conversation.target.fails = true;
        let answers = bench.ask_all(conversation, 2, &asked);
        assert!(answers[0].1.finish.is_err());
        assert_eq!(answers[1].1.finish, Ok(Finish::Length));
        assert_eq!(answers[1].0, bench.ask(fresh, &asked[1]).0);
        State::of(conversation, "the one that went on").check(fresh, "the one that went on");
    });
}

#[test]
fn in_turns_or_alone_the_answers_are_the_same() {
    for (seed, kv_bytes) in [(51, None), (52, Some(3 * ROOM_FOR_ONE))] {
        let mut bench = Bench::new(seed);
        bench.kv_bytes = kv_bytes;
        bench.run_beside(|conversation, fresh| {
            let mut random = Random(seed);
            let mut agents: Vec<Vec<u32>> = vec![vec![1, 2, 3]; 4];
            for round in 0..12 {
                let mut asked = Vec::new();
                for agent in &mut agents {
                    let new = usize::try_from(random.next() % 30).unwrap();
                    agent.extend(prompt(&mut random, 1 + new));
                    agent.truncate(200);
                    let drafted = usize::try_from(random.next() % 5).unwrap();
                    let tokens = usize::try_from(random.next() % 20).unwrap();
                    let mut one = Asked::new(agent, drafted, 1 + tokens);
                    one.adapts = random.next().is_multiple_of(2);
                    asked.push(one);
                }
                let expected: Vec<String> = asked
                    .iter()
                    .map(|asked| {
                        fresh.reset();
                        bench.ask(fresh, asked).0
                    })
                    .collect();
                let gone = usize::try_from(random.next() % 8).unwrap();
                if let Some(one) = asked.get_mut(gone) {
                    one.patience = 1;
                }
                let answers = bench.ask_all(conversation, 1 + round % 4, &asked);
                for (number, (text, _)) in answers.iter().enumerate() {
                    let what = format!("seed {seed}, round {round}, agent {number}");
                    let whole = &expected[number];
                    assert!(whole == text || number == gone && whole.starts_with(text), "{what}");
                    agents[number].extend(tokens_of(text));
                }
                let what = format!("seed {seed}, round {round}");
                State::of(conversation, &what).check(fresh, &what);
                let bytes = conversation.bytes() + conversation.other_bytes();
                assert!(bytes <= kv_bytes.unwrap_or(u64::MAX), "{what}: {bytes}");
            }
        });
    }
}
