//! What a model thinks before it answers, apart from the answer: the text between `<think>` and `</think>` at the beginning,
//! also where the prompt has opened the block already. A block that is never closed stays reasoning. Works on text that comes
//! in pieces; the marks and the whitespace around them belong to neither side.

use crate::stop::overlap;

pub(crate) const OPEN: &str = "<think>";
pub(crate) const CLOSE: &str = "</think>";

/// Closes the block that a prompt may end in, as templates write a block without thoughts.
pub(crate) fn close(prompt: &mut String) {
    if prompt.trim_end().ends_with(OPEN) {
        prompt.push_str("\n</think>\n\n");
    }
}

/// Parts reasoning from the answer.
#[derive(Debug)]
pub(crate) struct Reasoning {
    state: State,
    held: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing but whitespace and perhaps the beginning of the opening mark has come.
    Start,
    /// Behind the opening mark, before any of its text.
    Opened,
    /// In the block.
    Thinking,
    /// Behind the closing mark.
    Closed,
    /// In the answer.
    Answering,
}

/// What became of a piece of text: first reasoning, then answer, either of which may be empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parted {
    pub(crate) reasoning: String,
    pub(crate) answer: String,
}

impl Reasoning {
    /// For the answer to `prompt`, which may end in an open block.
    pub(crate) fn behind(prompt: &str) -> Self {
        let opened = prompt.trim_end().ends_with(OPEN);
        let state = if opened { State::Opened } else { State::Start };
        Self { state, held: String::new() }
    }

    /// Whether what comes next is reasoning, as far as is known.
    pub(crate) const fn is_open(&self) -> bool {
        matches!(self.state, State::Opened | State::Thinking)
    }

    /// Adds `text` and returns what is certain.
    pub(crate) fn push(&mut self, text: &str) -> Parted {
        self.held.push_str(text);
        let mut parted = Parted::default();
        if self.state == State::Start {
            let begun = self.held.trim_start();
            if let Some(inside) = begun.strip_prefix(OPEN) {
                self.held = inside.to_owned();
                self.state = State::Opened;
            } else if !OPEN.starts_with(begun) {
                self.state = State::Answering;
            }
        }
        if self.state == State::Opened {
            self.skip_space(State::Thinking);
        }
        if self.state == State::Thinking {
            self.think(&mut parted);
        }
        if self.state == State::Closed {
            self.skip_space(State::Answering);
        }
        if self.state == State::Answering {
            parted.answer = std::mem::take(&mut self.held);
        }
        parted
    }

    /// Everything that is left, at the end.
    pub(crate) fn finish(&mut self) -> Parted {
        let held = std::mem::take(&mut self.held);
        match self.state {
            State::Opened | State::Thinking => {
                Parted { reasoning: held.trim_end().to_owned(), answer: String::new() }
            }
            State::Start | State::Closed | State::Answering => {
                Parted { reasoning: String::new(), answer: held }
            }
        }
    }

    fn skip_space(&mut self, next: State) {
        self.held = self.held.trim_start().to_owned();
        if !self.held.is_empty() {
            self.state = next;
        }
    }

    fn think(&mut self, parted: &mut Parted) {
        if let Some(at) = self.held.find(CLOSE) {
            parted.reasoning.push_str(self.held[..at].trim_end());
            self.held.drain(..at + CLOSE.len());
            self.state = State::Closed;
            return;
        }
        let certain = &self.held[..self.held.len() - overlap(&self.held, CLOSE)];
        let certain = certain.trim_end().len();
        parted.reasoning.extend(self.held.drain(..certain));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(prompt: &str, pieces: &[&str]) -> (String, String) {
        let mut parser = Reasoning::behind(prompt);
        let mut all = Parted::default();
        for piece in pieces {
            let parted = parser.push(piece);
            all.reasoning += &parted.reasoning;
            all.answer += &parted.answer;
        }
        let last = parser.finish();
        (all.reasoning + &last.reasoning, all.answer + &last.answer)
    }

    #[test]
    fn reasoning_is_parted_from_the_answer() {
        for (prompt, text, reasoning, answer) in [
            ("a\n", "<think>\nhm\n\nso\n</think>\n\nYes.\n", "hm\n\nso", "Yes.\n"),
            ("a\n", "\n<think></think>Yes.", "", "Yes."),
            ("a\n<think>\n", "hm\n</think>\n\nYes.", "hm", "Yes."),
            ("a\n<think>\n\n</think>\n\n", "Yes.", "", "Yes."),
            ("a\n", "Yes <think>no</think>", "", "Yes <think>no</think>"),
            ("a\n", "  Yes", "", "  Yes"),
            ("a\n", "<thin", "", "<thin"),
            // Never closed.
            ("a\n", "<think>\nhm </thin", "hm </thin", ""),
            ("a\n<think>\n", "hm\n", "hm", ""),
            ("a\n", "<think>", "", ""),
        ] {
            let expected = (reasoning.to_owned(), answer.to_owned());
            assert_eq!(run(prompt, &[text]), expected, "{text}");
        }
    }

    #[test]
    fn reasoning_is_not_held_back() {
        let mut parser = Reasoning::behind("");
        assert_eq!(parser.push("<think>\n"), Parted::default());
        assert!(parser.is_open());
        assert_eq!(parser.push("hm \n<").reasoning, "hm");
        assert_eq!(parser.push("b></th").reasoning, " \n<b>");
        assert_eq!(parser.push("ink>\n"), Parted::default());
        assert!(!parser.is_open());
        assert_eq!(parser.push("\nYes").answer, "Yes");
    }

    proptest! {
        #[test]
        fn pieces_give_what_the_whole_gives(
            opened in any::<bool>(),
            pieces in prop::collection::vec(
                prop_oneof![Just("<think>"), Just("</think>"), Just("<th"), Just("ink>"), Just("\n"), Just("é "), Just("</")],
                0..10,
            ),
        ) {
            let prompt = if opened { "<think>\n" } else { "" };
            let whole = pieces.concat();
            let characters: Vec<String> = whole.chars().map(String::from).collect();
            let characters: Vec<&str> = characters.iter().map(String::as_str).collect();
            prop_assert_eq!(run(prompt, &pieces), run(prompt, &[&whole]));
            prop_assert_eq!(run(prompt, &characters), run(prompt, &[&whole]));
        }
    }
}
