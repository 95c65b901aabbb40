//! Conversations that say the same at the same time, and how they are told apart where they ask others.

use super::*;

/// As many conversations that say the same, no two of them asking the same of the same.
fn of_their_own(talks: usize, unique_ids: bool) -> Vec<Talk> {
    let upstreams = ["local", "cloud"];
    let talk = |number: usize| Talk {
        of: (format!("model-{}", number / 2), upstreams[number % 2]),
        ..Talk::new(number, unique_ids, true)
    };
    (0..talks).map(talk).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn conversations_that_say_the_same_to_others_are_never_mixed(
        picks in prop::collection::vec(0..1000_usize, 1..200), talks in 2..16_usize, unique_ids: bool
    ) {
        interleave(of_their_own(talks, unique_ids), &picks)?;
    }

    #[test]
    fn nor_where_their_requests_fail_and_are_sent_again(
        order in prop::collection::vec((0..6_usize, any::<bool>()), 1..40)
    ) {
        let mut desk = Desk::new();
        let mut talks = of_their_own(6, false);
        for talk in &mut talks {
            talk.step(&mut desk);
            talk.step(&mut desk);
        }
        for (number, fails) in order {
            let talk = &mut talks[number];
            if talk.is_over() {
                continue;
            }
            talk.step(&mut desk);
            let Some(open) = talk.asked.take_if(|_| fails) else { continue };
            desk.end(&open, None);
            talk.calls.pop();
            // Under way are both the others' same requests and their failures.
            let again = desk.ask_of(&open.messages, &talk.of.0, talk.of.1);
            talk.calls.push(again.span_id);
            talk.asked = Some(again);
        }
        let runs = desk.runs();
        let mut seen = HashSet::new();
        for talk in &talks {
            let of: HashSet<&String> = talk.calls.iter().map(|call| &runs[call]).collect();
            prop_assert_eq!(of.len(), 1, "a talk is one run");
            prop_assert!(of.into_iter().all(|run| seen.insert(run.clone())), "of its own");
        }
    }
}

#[test]
fn a_conversation_that_is_alone_may_ask_another_after_a_failure() {
    let mut desk = Desk::new();
    let mut messages = vec![user("find it")];
    let first = desk.say(&mut messages, asks(&["a"]));
    messages.push(result("a"));
    let failed = desk.ask(&messages, "engine");
    desk.end(&failed, None);
    let other = desk.ask_of(&messages, "another", "cloud");
    desk.end(&other, Some(&said("here")));
    let runs = desk.runs();
    assert_eq!(runs[&first], runs[&other.span_id]);
    assert_eq!(desk.joined[&other.span_id], Joined::Retried);
}

#[test]
fn a_history_summed_up_behind_its_first_request_is_unknown_and_two_new_ones_are_not() {
    let mut desk = Desk::new();
    let mut messages = vec![system("be brief"), user("find it")];
    let first = desk.say(&mut messages, asks(&["a"]));
    let mut summed_up = vec![system("be brief"), user("find it"), user("So far: nothing.")];
    let next = desk.say(&mut summed_up, said("here"));
    let mut other = vec![system("be brief"), user("the rules"), user("find that")];
    let fresh = desk.say(&mut other, said("there"));
    let mut alike = vec![system("be brief"), user("the rules"), user("find this")];
    let another = desk.say(&mut alike, said("there"));
    let runs = desk.runs();
    assert_eq!(runs.values().collect::<HashSet<_>>().len(), 4);
    let joined = [first, next, fresh, another].map(|call| desk.joined[&call]);
    assert_eq!(joined, [Joined::Began, Joined::Unknown, Joined::Began, Joined::Began]);
}
