//! Stop strings over text that comes in pieces: what may be the beginning of one is held back until it is known.

/// Looks for stop strings.
#[derive(Debug)]
pub(crate) struct StopStrings {
    stops: Vec<String>,
    held: String,
}

/// What became of a piece of text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    /// Text that can be shown.
    pub(crate) text: String,
    /// Whether a stop string was met right behind it; nothing must be pushed after that.
    pub(crate) stopped: bool,
}

impl StopStrings {
    /// Empty strings are not looked for.
    pub(crate) fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        Self { stops, held: String::new() }
    }

    /// Adds `text` and returns what is certain not to be part of a stop string.
    pub(crate) fn push(&mut self, text: &str) -> Passed {
        if self.stops.is_empty() {
            return Passed { text: text.to_owned(), stopped: false };
        }
        self.held.push_str(text);
        let partial = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let partial = self.held.len() - partial;
        match self.find() {
            // The stop that begins first counts; one that begins before may still be completed.
            Some(at) if at <= partial => self.end_at(at),
            found => {
                let certain = found.map_or(partial, |at| at.min(partial));
                Passed { text: self.held.drain(..certain).collect(), stopped: false }
            }
        }
    }

    /// What is still held back, at the end.
    pub(crate) fn finish(&mut self) -> Passed {
        match self.find() {
            Some(at) => self.end_at(at),
            None => Passed { text: std::mem::take(&mut self.held), stopped: false },
        }
    }

    fn find(&self) -> Option<usize> {
        self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min()
    }

    fn end_at(&mut self, at: usize) -> Passed {
        let mut text = std::mem::take(&mut self.held);
        text.truncate(at);
        Passed { text, stopped: true }
    }
}

/// The length in bytes of the longest end of `text` that is a beginning of `mark` but not all of it.
pub(crate) fn overlap(text: &str, mark: &str) -> usize {
    mark.char_indices().map(|(at, _)| at).rev().find(|&at| text.ends_with(&mark[..at])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(stops: &[String], pieces: &[String]) -> (String, bool) {
        let mut search = StopStrings::new(stops);
        let mut shown = String::new();
        for piece in pieces {
            let passed = search.push(piece);
            shown.push_str(&passed.text);
            if passed.stopped {
                return (shown, true);
            }
        }
        let last = search.finish();
        shown.push_str(&last.text);
        (shown, last.stopped)
    }

    #[test]
    fn the_first_stop_in_the_text_wins_and_is_not_shown() {
        let stops = ["END".to_owned(), "b".to_owned()];
        assert_eq!(run(&stops, &["aaE".into(), "NDb".into()]), ("aa".into(), true));
        assert_eq!(run(&stops, &["aE".into(), "Nb".into()]), ("aEN".into(), true));
        assert_eq!(run(&stops, &["aE".into(), "N".into()]), ("aEN".into(), false));
        assert_eq!(run(&[String::new()], &["x".into()]), ("x".into(), false));
    }

    #[test]
    fn text_that_cannot_be_a_stop_is_not_held_back() {
        let mut search = StopStrings::new(&["\n\nQ:".to_owned()]);
        assert_eq!(search.push("hello"), Passed { text: "hello".into(), stopped: false });
        assert_eq!(search.push("\n"), Passed { text: String::new(), stopped: false });
        assert_eq!(search.push("é"), Passed { text: "\né".into(), stopped: false });
    }

    proptest! {
        #[test]
        fn pieces_give_what_the_whole_gives(
            stops in prop::collection::vec("[abé]{1,3}", 0..3),
            pieces in prop::collection::vec("[abcé]{0,4}", 0..8),
        ) {
            let whole = pieces.concat();
            let first = stops.iter().filter_map(|stop| whole.find(stop.as_str())).min();
            let expected = first.map_or((whole.clone(), false), |at| (whole[..at].to_owned(), true));
            prop_assert_eq!(run(&stops, &pieces), expected);
        }
    }
}
