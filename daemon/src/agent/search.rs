//! Looking through code: lines that match a pattern, definitions of a symbol. Works on text alone and knows Python's way to
//! define things; what a tool is called and how its arguments arrive is the business of `tools`.

use super::code_base::File;

/// At most this many lines come back: the built-in model was trained on dialogues of up to 400 tokens, and beyond them it loses
/// its thread.
const MAX_LINES: usize = 5;
/// At most this many lines of a definition's body.
const MAX_BODY: usize = 14;

/// Words that say nothing about what is looked for.
const FILLERS: &[&str] = &[
    "a", "all", "an", "and", "any", "code", "codebase", "every", "find", "for", "in", "of", "on",
    "or", "show", "the", "to", "use", "uses", "with",
];

/// A line that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Found {
    path: &'static str,
    line: usize,
    text: &'static str,
}

impl Found {
    fn render(self) -> String {
        format!("{}:{}: {}", self.path, self.line, self.text.trim())
    }
}

/// Lines that match `pattern`, as `path:line: text`, at most 12. Lines that contain it as it stands come first, whatever
/// their case. Behind them come lines with all of its significant words, and lines with one of them in files that have them
/// all; among those, definitions first. So `async/await` finds the coroutines, and `Django views` finds the views.
pub(super) fn matches(files: &[File], pattern: &str) -> Vec<String> {
    let phrase = pattern.trim().to_lowercase();
    if phrase.is_empty() {
        return Vec::new();
    }
    let words = significant_words(&phrase);
    let mut exact = Vec::new();
    let mut related = Vec::new();
    for file in files {
        let complete = has_all(&file.text.to_lowercase(), &words);
        for (line, text) in file.lines() {
            let lower = text.to_lowercase();
            let found = Found { path: file.path, line, text };
            if lower.contains(&phrase) {
                exact.push(found);
            } else if has_all(&lower, &words) {
                related.push((rank(text, true), found));
            } else if complete && words.iter().any(|word| lower.contains(word.as_str())) {
                related.push((rank(text, false), found));
            }
        }
    }
    // A stable sort: within a rank the order of the files stays.
    related.sort_by_key(|(rank, _)| *rank);
    exact
        .into_iter()
        .chain(related.into_iter().map(|(_, found)| found))
        .take(MAX_LINES)
        .map(Found::render)
        .collect()
}

fn rank(line: &str, all_words: bool) -> u8 {
    match (defined_name(line).is_some_and(|(_, kind)| kind == Kind::Block), all_words) {
        (true, _) => 0,
        (false, true) => 1,
        (false, false) => 2,
    }
}

/// `words` is never empty in a match: no words match nothing.
fn has_all(text: &str, words: &[String]) -> bool {
    !words.is_empty() && words.iter().all(|word| text.contains(word.as_str()))
}

/// The words of a lower-case phrase without fillers and without the plural's `s`.
fn significant_words(phrase: &str) -> Vec<String> {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    phrase
        .split(|character: char| !is_word(character))
        .filter(|word| !word.is_empty() && !FILLERS.contains(word))
        .map(|word| match word.strip_suffix('s') {
            Some(singular) if singular.len() > 2 && !singular.ends_with('s') => singular.to_owned(),
            _ => word.to_owned(),
        })
        .collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A class or function, with a body.
    Block,
    /// A name that is given a value.
    Value,
}

/// The name that a line defines.
fn defined_name(line: &str) -> Option<(&str, Kind)> {
    let code = line.trim_start();
    let (rest, kind) = ["class ", "def ", "async def "]
        .iter()
        .find_map(|keyword| code.strip_prefix(keyword))
        .map_or((code, Kind::Value), |rest| (rest, Kind::Block));
    let end = rest
        .find(|character: char| !(character.is_alphanumeric() || character == '_'))
        .unwrap_or(rest.len());
    let (name, behind) = rest.split_at(end);
    if name.is_empty() {
        return None;
    }
    match kind {
        Kind::Block => Some((name, kind)),
        Kind::Value => {
            let behind = behind.trim_start();
            let assigned = behind.starts_with('=') && !behind.starts_with("==");
            assigned.then_some((name, kind))
        }
    }
}

/// The definition of `name` as `path:line: text`, its body below; empty when there is none. Takes the last part of a dotted
/// name, and ignores case when nothing has exactly that name.
pub(super) fn definition(files: &[File], name: &str) -> Vec<String> {
    let name = name.trim().trim_matches(['`', '"', '\'', '@']).trim_end_matches("()");
    let name = name.rsplit(['.', ':']).next().unwrap_or(name);
    if name.is_empty() {
        return Vec::new();
    }
    let same = |found: &str| found == name;
    let alike = |found: &str| found.eq_ignore_ascii_case(name);
    find_definition(files, &same).or_else(|| find_definition(files, &alike)).unwrap_or_default()
}

fn find_definition(files: &[File], wanted: &dyn Fn(&str) -> bool) -> Option<Vec<String>> {
    [Kind::Block, Kind::Value].into_iter().find_map(|kind| {
        files.iter().find_map(|file| {
            let (line, text) = file.lines().find(|(_, text)| {
                defined_name(text).is_some_and(|(found, of)| of == kind && wanted(found))
            })?;
            let mut block = vec![Found { path: file.path, line, text }.render()];
            block.extend(body(file, line, indent(text)));
            Some(block)
        })
    })
}

/// The lines below `line` that are indented deeper than it, without blank lines at the end.
fn body(file: &File, line: usize, outer: usize) -> Vec<String> {
    let deeper = |text: &str| text.trim().is_empty() || indent(text) > outer;
    let mut lines: Vec<String> = file
        .lines()
        .skip(line)
        .map(|(_, text)| text)
        .take_while(|text| deeper(text))
        .take(MAX_BODY)
        .map(str::to_owned)
        .collect();
    while lines.last().is_some_and(|text| text.trim().is_empty()) {
        lines.pop();
    }
    lines
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

#[cfg(test)]
mod tests {
    use super::super::code_base::SAMPLE;
    use super::*;

    #[test]
    fn views_are_found_by_their_framework_and_kind() {
        let found = matches(SAMPLE, "Django views");
        assert!(
            found.iter().any(|line| line.contains("class BookListView(ListView):")),
            "{found:#?}"
        );
        assert!(
            found.iter().any(|line| line.contains("class UserViewSet(ModelViewSet):")),
            "{found:#?}"
        );
        assert!(found[0].contains(": class "), "definitions first: {found:#?}");
    }

    #[test]
    fn coroutines_and_their_awaits_are_found() {
        let found = matches(SAMPLE, "async/await");
        assert!(found[0].starts_with("orders/notify.py:12: async def"), "{found:#?}");
        assert!(found.iter().any(|line| line.contains(": await asyncio.sleep(")), "{found:#?}");
        assert!(found.len() <= MAX_LINES);
    }

    #[test]
    fn the_exact_phrase_comes_first_and_ignores_case() {
        let found = matches(SAMPLE, "pagE_sIze");
        assert_eq!(found[0], "catalog/views.py:8: from shop.settings import PAGE_SIZE");
        assert!(matches(SAMPLE, "while True").is_empty());
        assert!(matches(SAMPLE, "  ").is_empty());
        assert!(matches(SAMPLE, "all of the").is_empty());
    }

    #[test]
    fn a_definition_comes_with_its_body_only() {
        let found = definition(SAMPLE, "UserSerializer");
        assert_eq!(
            found[0],
            "accounts/serializers.py:14: class UserSerializer(serializers.ModelSerializer):"
        );
        assert_eq!(found.last().unwrap().trim(), "return digits");
        let found = definition(SAMPLE, "`Order.total_cents()`");
        assert_eq!(found[0], "orders/models.py:16: def total_cents(self):");
        assert_eq!(found.len(), 2);
        assert_eq!(definition(SAMPLE, "retries"), ["orders/notify.py:9: RETRIES = 3"]);
        assert!(definition(SAMPLE, "Invoice").is_empty());
        assert!(definition(SAMPLE, "()").is_empty());
    }
}
