//! The parts of a request as hashes: enough to say which part changed from one request to the next, without keeping any
//! text. Hashes never leave the process.

use std::hash::{DefaultHasher, Hasher};
use std::io;

use dwell_probes::cache::Change;
use serde::Serialize;

use crate::backend::Prompt;

/// System prompt, tools, template variables and messages of a conversation; all empty for raw text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Segments {
    /// The message that begins the conversation, when it is the system's or the developer's.
    system: Option<u64>,
    tools: Vec<u64>,
    variables: u64,
    /// The other messages.
    messages: Vec<u64>,
}

impl Segments {
    /// Of a request's prompt.
    pub(crate) fn of(prompt: &Prompt) -> Self {
        let Prompt::Chat { messages, tools, template_kwargs, .. } = prompt else {
            return Self::default();
        };
        let begins = messages.first().and_then(|message| message.get("role")?.as_str());
        let system = usize::from(matches!(begins, Some("system" | "developer")));
        let (system, messages) = messages.split_at(system);
        Self {
            system: system.first().map(hash),
            messages: messages.iter().map(hash).collect(),
            tools: tools.iter().map(hash).collect(),
            variables: hash(template_kwargs),
        }
    }

    /// How many messages both have, wherever they stand.
    pub(crate) fn shared_messages(&self, other: &Self) -> usize {
        shared(&self.messages, &other.messages)
    }

    /// Whether these are all of `earlier`'s parts and perhaps further messages.
    pub(crate) fn go_on_from(&self, earlier: &Self) -> bool {
        !earlier.messages.is_empty() && self.change_from(earlier).is_none()
    }

    /// The first part that is not what it was in `earlier`; `None` where all are, and only messages were added.
    pub(crate) fn change_from(&self, earlier: &Self) -> Option<Change> {
        if self.system != earlier.system {
            return Some(Change::SystemPrompt);
        }
        if self.tools != earlier.tools {
            let same = self.tools.len() == earlier.tools.len()
                && shared(&self.tools, &earlier.tools) == self.tools.len();
            return Some(if same { Change::ToolOrder } else { Change::Tools });
        }
        if self.variables != earlier.variables {
            return Some(Change::Rendering);
        }
        let same = self.messages.iter().zip(&earlier.messages).take_while(|(a, b)| a == b).count();
        let (now, before) = (&self.messages[same..], &earlier.messages[same..]);
        if before.is_empty() {
            return None;
        }
        // Where both come together again.
        let again = now.iter().enumerate().find_map(|(added, message)| {
            Some((added, before.iter().position(|earlier| earlier == message)?))
        });
        Some(match again {
            Some((added, left_out)) if left_out > added => Change::TrimmedHistory,
            None if same == 0 => Change::NewConversation,
            _ => Change::ChangedMessage,
        })
    }
}

/// How many elements two lists have in common, each counted as often as in the list that has it less often.
fn shared(a: &[u64], b: &[u64]) -> usize {
    let (mut a, mut b) = (a.to_vec(), b.to_vec());
    a.sort_unstable();
    b.sort_unstable();
    let mut b = b.into_iter().peekable();
    let found = a.into_iter().filter(|element| {
        while b.next_if(|other| other < element).is_some() {}
        b.next_if_eq(element).is_some()
    });
    found.count()
}

/// Of the JSON text, since that is what templates render: another order of keys is another text.
fn hash(value: &(impl Serialize + ?Sized)) -> u64 {
    struct Sink(DefaultHasher);
    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut sink = Sink(DefaultHasher::new());
    // Neither the sink nor a JSON value can fail; a hash of less than all would only make a cause vaguer.
    let _ = serde_json::to_writer(&mut sink, value);
    sink.0.finish()
}

#[cfg(test)]
mod tests;
