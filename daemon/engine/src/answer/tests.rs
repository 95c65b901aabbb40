//! Where answers end, and what of them is shown.

use super::*;
use crate::toy::Folder;

fn run(stops: &[&str], tools: bool, bursts: &[&str]) -> (String, Vec<Taken>) {
    let folder = Folder::with_pair(21);
    // The letter z ends an answer.
    let tokenizer = Arc::new(Tokenizer::open(&folder.source("target"), &[25]).unwrap());
    let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
    let mut answer = Answer::new(Arc::clone(&tokenizer), &stops, tools);
    let mut taken = Vec::new();
    for burst in bursts {
        taken.push(answer.push(&tokenizer.encode(burst, false).unwrap()));
        if taken.last().unwrap().ended {
            break;
        }
    }
    answer.finish();
    let mut text = String::new();
    while let Some(event) = answer.next() {
        match event {
            Event::Logprobs(told) => panic!("nobody asked: {told:?}"),
            Event::Text(more) => text.push_str(&more),
            other => panic!("unexpected {other:?}"),
        }
    }
    (text, taken)
}

#[test]
fn tokens_behind_the_end_of_a_burst_are_left() {
    let going = |tokens| Taken { tokens, ended: false };
    let ended = |tokens| Taken { tokens, ended: true };
    assert_eq!(run(&[], false, &["ab", "czde"]), ("abc".to_owned(), vec![going(2), ended(2)]));
    assert_eq!(run(&["cd"], false, &["abc", "def"]), ("ab".to_owned(), vec![going(3), ended(1)]));
    assert_eq!(run(&["cdx"], true, &["abc", "de"]), ("abcde".to_owned(), vec![going(3), going(2)]));
    assert_eq!(run(&["cdx"], false, &["abc", "z"]), ("abc".to_owned(), vec![going(3), ended(1)]));
}
