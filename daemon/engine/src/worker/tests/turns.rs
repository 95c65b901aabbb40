//! Several conversations by turns: each goes on where it was, in buffers of its own, whatever the others do and however a
//! call ends, and what is run again is told with its cause.

use dwell_probes::cache::Change;
use serde_json::{Map, json};

use super::*;
use crate::backend::{Prompt, ToolChoice};

/// Memory in which one conversation of the toy pair fits, but not two.
const ROOM_FOR_ONE: u64 = 200_000;

fn segments(messages: &[&str]) -> Segments {
    let messages = messages.iter().map(|text| json!({"role": "user", "content": text})).collect();
    Segments::of(&Prompt::Chat {
        messages,
        tools: Vec::new(),
        template_kwargs: Map::new(),
        tool_choice: ToolChoice::Auto,
    })
}

/// A caller that adds to its conversation turn by turn.
struct Agent {
    prompt: Vec<u32>,
    /// Tokens that are held after its last turn.
    known: usize,
}

impl Agent {
    fn new(prompt: Vec<u32>) -> Self {
        Self { prompt, known: 0 }
    }

    fn turn(
        &mut self,
        bench: &Bench,
        conversation: &mut Conversation,
        (drafted, new): (usize, &[u32]),
    ) -> Outcome {
        self.prompt.extend(new);
        let (text, outcome) = bench.ask(conversation, &Asked::new(&self.prompt, drafted, 8));
        self.prompt.extend(tokens_of(&text));
        self.known = self.prompt.len() - 1;
        outcome
    }
}

#[test]
fn agents_by_turns_go_on_where_they_were() {
    let bench = Bench::new(21);
    bench.run_beside(|conversation, fresh| {
        let mut random = Random(1);
        let head = prompt(&mut random, 30);
        let mut agents: Vec<Agent> = (0..3).map(|_| Agent::new(head.clone())).collect();
        for turn in 0..4 {
            for (number, agent) in agents.iter_mut().enumerate() {
                let expected = if turn > 0 {
                    agent.known
                } else if number > 0 {
                    head.len()
                } else {
                    0
                };
                let mut new = prompt(&mut random, 12);
                new[0] = u32::try_from(number).unwrap();
                let outcome = agent.turn(&bench, conversation, (turn, &new));
                assert_eq!(outcome.cached_tokens as usize, expected, "{number} in {turn}");
                assert_eq!(outcome.cache.recomputed, []);
                let what = format!("agent {number}, turn {turn}");
                State::of(conversation, &what).check(fresh, &what);
            }
        }
        assert!(conversation.other_bytes() > 0);
    });
}

#[test]
fn ten_turns_run_what_is_new_and_nothing_else() {
    let bench = Bench::new(22);
    bench.run(|conversation| {
        let mut random = Random(2);
        let mut agent = Agent::new(prompt(&mut random, 60));
        for turn in 0..10 {
            let new = prompt(&mut random, 10 + turn);
            let (before, known) = (conversation.target.rows, agent.known);
            let expected = agent.prompt.len() + new.len() - known;
            agent.turn(&bench, conversation, (0, &new));
            // The prompt's new tokens, and one row for each token of the answer but the last.
            let rows = conversation.target.rows - before;
            assert_eq!(rows, expected as u64 + 7, "turn {turn}");
            assert!(
                turn == 0 || expected == new.len() + 1,
                "only the answer's last token is run again"
            );
        }
    });
}

#[test]
fn buffers_are_moved_by_turns_and_copied_only_for_a_branch() {
    let bench = Bench::new(23);
    bench.run(|conversation| {
        let mut random = Random(3);
        let head = prompt(&mut random, 40);
        let mut a = Agent::new(head.clone());
        a.turn(&bench, conversation, (2, &[1, 1, 1]));
        let of_a = conversation.addresses();
        let mut b = Agent::new(head);
        b.turn(&bench, conversation, (2, &[2, 2, 2]));
        let of_b = conversation.addresses();
        assert_eq!(of_a.len(), of_b.len());
        assert!(of_a.iter().all(|address| !of_b.contains(address)), "a branch has its own");
        for turn in 0..3 {
            a.turn(&bench, conversation, (turn, &[3, 4]));
            assert_eq!(conversation.addresses(), of_a, "turn {turn}: written where it lay");
            b.turn(&bench, conversation, (turn, &[5, 6]));
            assert_eq!(conversation.addresses(), of_b, "turn {turn}: written where it lay");
        }
    });
}

#[test]
fn a_full_buffer_is_copied_too() {
    let bench = Bench::new(24);
    bench.run_beside(|conversation, fresh| {
        // A beginning as long as a whole step of the buffers.
        let head = prompt(&mut Random(4), 256);
        let mut a = Agent::new(head.clone());
        a.turn(&bench, conversation, (1, &[1]));
        let of_a = conversation.addresses();
        let mut b = Agent::new(head);
        // Plain, so that the draft model's copy stays as it was made.
        b.turn(&bench, conversation, (0, &[2]));
        assert!(of_a.iter().all(|address| !conversation.addresses().contains(address)));
        State::of(conversation, "the branch").check(fresh, "the branch");
        let outcome = a.turn(&bench, conversation, (1, &[3]));
        assert_eq!(conversation.addresses(), of_a, "written where it lay");
        assert_eq!(outcome.cached_tokens, 256 + 1 + 7);
        State::of(conversation, "the trunk").check(fresh, "the trunk");
    });
}

#[test]
fn an_answer_that_comes_back_shorter_serves_up_to_the_break() {
    let bench = Bench::new(25);
    bench.run(|conversation| {
        let mut random = Random(5);
        let first = prompt(&mut random, 50);
        let asked = Asked { segments: segments(&["a"]), ..Asked::new(&first, 3, 60) };
        let (text, _) = bench.ask(conversation, &asked);
        let addresses = conversation.addresses();
        let answer = tokens_of(&text);
        // What the answer begins with is left out of the next prompt.
        let kept = (10..30).find(|at| answer[*at] != answer[0]).unwrap();
        let next = [&first[..], &answer[kept..], &[7, 7, 7]].concat();
        let asked = Asked { segments: segments(&["a", "b"]), ..Asked::new(&next, 3, 5) };
        let (_, outcome) = bench.ask(conversation, &asked);
        assert_eq!(outcome.cached_tokens, 50);
        let difference = outcome.cache.first_difference.unwrap();
        assert_eq!((difference.at, difference.change), (50, Change::RewrittenAnswer));
        // The last token of the answer was never run.
        let again = &outcome.cache.recomputed[..];
        assert_eq!((again.len(), again[0].tokens), (1, 60 - kept as u64 - 1));
        assert!(again[0].ns > 0);
        assert_eq!(conversation.addresses(), addresses, "the entry itself was cut back");
        assert_eq!(conversation.other_bytes(), 0);
        assert_eq!(outcome.cache.kv_bytes, conversation.bytes());
    });
}

#[test]
fn a_changed_beginning_is_told_with_what_it_costs() {
    let bench = Bench::new(26);
    bench.run(|conversation| {
        let mut random = Random(6);
        let rest = prompt(&mut random, 100);
        let ask = |conversation: &mut Conversation, beginning: &[u32]| {
            let whole = [beginning, &rest[..]].concat();
            bench.ask(conversation, &Asked::new(&whole, 0, 4)).1
        };
        ask(conversation, &[1, 2, 3]);
        let outcome = ask(conversation, &[1, 2, 9, 9]);
        assert_eq!(outcome.cached_tokens, 2);
        let difference = outcome.cache.first_difference.unwrap();
        assert_eq!((difference.at, difference.change), (2, Change::ChangedMessage));
        assert_eq!(outcome.cache.recomputed_tokens(), 100);
        // All but four of the rows that were run had been run before.
        let run: u64 = outcome
            .timeline
            .entries()
            .iter()
            .filter(|e| e.phase == Phase::Prefill)
            .map(|e| e.end.since(e.start))
            .sum();
        assert_eq!(outcome.cache.recomputed_ns(), run * 100 / 102);
    });
}

#[test]
fn what_makes_room_is_run_again_and_told() {
    let mut bench = Bench::new(27);
    bench.kv_bytes = Some(ROOM_FOR_ONE);
    bench.run_beside(|conversation, fresh| {
        let mut random = Random(7);
        let mut a = Agent::new(prompt(&mut random, 80));
        let mut b = Agent::new(prompt(&mut random, 80));
        a.turn(&bench, conversation, (1, &[1]));
        b.turn(&bench, conversation, (1, &[2]));
        assert_eq!(conversation.other_bytes(), 0, "there is no room for both");
        let known = a.known as u64;
        let outcome = a.turn(&bench, conversation, (1, &[3]));
        assert_eq!(outcome.cached_tokens, 0);
        let again = &outcome.cache.recomputed[..];
        assert_eq!((again.len(), again[0].change, again[0].tokens), (1, Change::Evicted, known));
        assert!(again[0].ns > 0);
        State::of(conversation, "run again").check(fresh, "run again");
    });
}

#[test]
fn a_failed_pass_costs_its_own_conversation_only() {
    let bench = Bench::new(28);
    bench.run_beside(|conversation, fresh| {
        let mut random = Random(8);
        for drafted in [0, 3] {
            let mut a = Agent::new(prompt(&mut random, 40));
            let mut b = Agent::new(prompt(&mut random, 40));
            a.turn(&bench, conversation, (drafted, &[1]));
            b.turn(&bench, conversation, (drafted, &[2]));
            let lost = Asked::new(&[&b.prompt[..], &[5]].concat(), drafted, 8);
            if drafted == 0 {
                conversation.target.fails = true;
            } else {
                conversation.draft.as_mut().unwrap().fails = true;
            }
            let (_, outcome) = bench.ask(conversation, &lost);
            assert!(outcome.finish.unwrap_err().contains("a test made it fail"));
            assert_eq!((conversation.tokens().len(), conversation.bytes()), (0, 0));
            let known = a.known;
            let outcome = a.turn(&bench, conversation, (drafted, &[3]));
            assert_eq!(outcome.finish, Ok(Finish::Length));
            assert_eq!(outcome.cached_tokens as usize, known);
            State::of(conversation, "the other").check(fresh, "the other");
            let (text, outcome) = bench.ask(conversation, &lost);
            assert_eq!(outcome.cached_tokens, 0);
            assert_eq!(text, bench.ask(fresh, &lost).0);
        }
    });
}

#[test]
fn whatever_happened_before_answers_and_caches_are_those_of_a_fresh_start() {
    for (seed, kv_bytes) in [(31, None), (32, Some(ROOM_FOR_ONE)), (33, Some(2 * ROOM_FOR_ONE))] {
        let mut bench = Bench::new(seed);
        bench.kv_bytes = kv_bytes;
        bench.run_beside(|conversation, fresh| {
            let mut random = Random(seed);
            let mut below = |limit: usize| usize::try_from(random.next() % limit as u64).unwrap();
            let vocab = u32::try_from(VOCAB).unwrap();
            let mut prompts: Vec<Vec<u32>> = vec![vec![1, 2, 3]; 3];
            for step in 0..60 {
                let which = below(prompts.len());
                let mut now = prompts[which].clone();
                match below(5) {
                    // Goes back, changes something, or takes over another's conversation.
                    0 => now.truncate(1 + below(now.len())),
                    1 => {
                        let at = below(now.len());
                        now[at] = (now[at] + 1) % vocab;
                    }
                    2 => now.clone_from(&prompts[below(prompts.len())]),
                    _ => {}
                }
                now.truncate(180);
                let added = 1 + below(12);
                now.extend((0..added).map(|_| u32::try_from(below(VOCAB)).unwrap()));
                let drafted = below(6);
                let mut asked = Asked::new(&now, drafted, 1 + below(20));
                asked.adapts = below(2) == 0;
                let (whole, _) = bench.ask(fresh, &asked);
                match below(4) {
                    0 => asked.patience = below(4),
                    1 => asked.stops = vec![whole[below(whole.len())..].to_owned()],
                    2 if below(3) == 0 => conversation.target.fails = true,
                    _ => {}
                }
                let what = format!("seed {seed}, step {step}: {asked:?}");
                let (text, outcome) = bench.ask(conversation, &asked);
                assert!(whole.starts_with(&text), "{what}: {text}, not {whole}");
                conversation.target.fails = false;
                if outcome.finish.is_err() || conversation.tokens().is_empty() {
                    continue;
                }
                State::of(conversation, &what).check(fresh, &what);
                let held = conversation.other_bytes() + conversation.bytes();
                assert!(held <= kv_bytes.unwrap_or(u64::MAX), "{what}: {held} bytes");
                prompts[which] = [&now[..], &tokens_of(&text)].concat();
            }
        });
    }
}
