//! Tool calls in an answer's text, in the forms in which models write them; each form has a file of its own below. Works on
//! text that comes in pieces and passes calls on while they are being written. What is not a call comes back as text, exactly
//! as it was generated.
//!
//! A call begins, for whoever listens, once its name and the opening of its arguments have been read; from there up to its
//! end its text is arguments, also where it turns out not to be JSON or is cut off by the token limit: nothing is lost, and
//! whoever reads the arguments sees that they are broken.

mod cursor;
mod gemma;
mod json;
mod python;
mod xml;

use std::fmt;

use serde_json::Value;

use crate::stop::overlap;

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Text; never empty.
    Text(String),
    /// A call of the tool of this name begins.
    Call(String),
    /// More of the last call's arguments, which together are a JSON object; never empty.
    Arguments(String),
}

/// In which form a model writes its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`: Qwen2.5, Qwen3, Granite 4, Hermes.
    TaggedJson,
    /// `<|tool_call|>[{"name": ..., "arguments": {...}}, ...]`: Granite 3.
    Granite,
    /// `{"name": ..., "parameters": {...}}`, bare or behind `<|python_tag|>`: Llama 3.
    Llama,
    /// `[TOOL_CALLS][{"name": ..., "arguments": {...}}, ...]`: Mistral.
    Mistral,
    /// `<tool_call><function=name><parameter=key>value</parameter></function></tool_call>`: Qwen3-Coder, Qwen3.5.
    Xml,
    /// Calls as Python writes them, in a list or a block of `tool_code`: LFM2, and models that are told to, such as Gemma 3.
    Python,
    /// `<start_function_call>call:name{key:value}<end_function_call>`.
    FunctionGemma,
    /// The same in the marks of Gemma 4.
    Gemma4,
}

impl Dialect {
    /// The form that a model was trained on: the one whose marks its chat template holds, or else its vocabulary.
    pub(crate) fn infer(template: &str, has_token: impl Fn(&str) -> bool) -> Self {
        // From the most telling mark to the least: later forms share marks with earlier ones.
        let marks = [
            ("<function=", Self::Xml),
            ("<start_function_call>", Self::FunctionGemma),
            ("<|tool_call>", Self::Gemma4),
            ("<|tool_call|>", Self::Granite),
            ("[TOOL_CALLS]", Self::Mistral),
            ("<|tool_call_start|>", Self::Python),
            ("<tool_call>", Self::TaggedJson),
            ("<|python_tag|>", Self::Llama),
            ("<|start_header_id|>", Self::Llama),
        ];
        let by = |holds: &dyn Fn(&str) -> bool| {
            marks.iter().find(|(mark, _)| holds(mark)).map(|(_, dialect)| *dialect)
        };
        by(&|mark| template.contains(mark)).or_else(|| by(&has_token)).unwrap_or(Self::TaggedJson)
    }

    /// The beginning of a call, up to where the model's own words have to begin: the tool's name, or behind `name` its
    /// arguments. It ends where tokens end in what models write themselves.
    pub(crate) fn opening(self, name: Option<&str>) -> String {
        let (marks, arguments) = match self {
            Self::TaggedJson => ("<tool_call>\n", "arguments"),
            Self::Granite => ("<|tool_call|>[", "arguments"),
            Self::Mistral => ("[TOOL_CALLS][", "arguments"),
            Self::Llama => ("", "parameters"),
            Self::Xml => {
                let name = name.map(|name| format!("{name}>\n")).unwrap_or_default();
                return format!("<tool_call>\n<function={name}");
            }
            Self::FunctionGemma => return gemma::FUNCTION.opening(name),
            Self::Gemma4 => return gemma::FOUR.opening(name),
            Self::Python => {
                return name.map_or_else(|| "[".to_owned(), |name| format!("[{name}("));
            }
        };
        match name {
            None => format!("{marks}{{\"name\": \""),
            Some(name) => format!("{marks}{{\"name\": {}, \"{arguments}\":", Value::from(name)),
        }
    }

    /// A parser for one answer to a request that offers `tools`, which are in OpenAI's form.
    pub(crate) fn parser(self, tools: &[Value]) -> ToolParser {
        let tools = Offered(tools.to_vec());
        let form: Box<dyn Form> = match self {
            Self::TaggedJson => Box::new(json::Json::tagged(tools)),
            Self::Granite => Box::new(json::Json::granite(tools)),
            Self::Llama => Box::new(json::Json::llama(tools)),
            Self::Mistral => Box::new(json::Json::mistral(tools)),
            Self::Xml => Box::new(xml::Xml::new(tools)),
            Self::Python => Box::new(python::Python::new(tools)),
            Self::FunctionGemma => Box::new(gemma::Gemma::new(&gemma::FUNCTION)),
            Self::Gemma4 => Box::new(gemma::Gemma::new(&gemma::FOUR)),
        };
        ToolParser { form, held: String::new(), reading: None, fresh: true, behind_call: false }
    }
}

/// The tools that a request offers.
#[derive(Debug)]
struct Offered(Vec<Value>);

impl Offered {
    /// The function of this name: `{"name", "parameters", ...}`.
    fn function(&self, name: &str) -> Option<&Value> {
        let functions = self.0.iter().filter_map(|tool| tool.get("function"));
        functions.into_iter().find(|f| f.get("name").and_then(Value::as_str) == Some(name))
    }

    /// The JSON schemas of the function's parameters by their names, in the order of the declaration.
    fn properties(&self, name: &str) -> Option<&serde_json::Map<String, Value>> {
        self.function(name)?.pointer("/parameters/properties")?.as_object()
    }
}

/// One form of calls. An implementation remembers how far it has read a block of calls, never the text itself.
trait Form: fmt::Debug + Send {
    /// Where a block of calls may begin in `text`. `fresh` says that nothing but whitespace comes before it.
    fn opening(&self, text: &str, fresh: bool) -> Opening;

    /// Reads on: `text` is what follows the last step, at first the block from its opening on. With `ended` no more will come,
    /// and the answer is not [`Step::Wait`].
    fn read(&mut self, text: &str, ended: bool) -> Step;
}

/// Whether a block of calls begins in a text.
#[derive(Debug, PartialEq, Eq)]
enum Opening {
    /// It does or may, here.
    At(usize),
    /// Not within so many bytes; what is behind them may be the beginning of an opening.
    NotBefore(usize),
}

impl Opening {
    /// The first of `marks` in `text`.
    fn find(text: &str, marks: &[&str]) -> Self {
        if let Some(at) = marks.iter().filter_map(|mark| text.find(mark)).min() {
            return Self::At(at);
        }
        let partial = marks.iter().map(|mark| overlap(text, mark)).max().unwrap_or(0);
        Self::NotBefore(text.len() - partial)
    }
}

/// What a form makes of the next `used` bytes.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// It takes more text to tell.
    Wait,
    /// A call begins, with the first piece of its arguments, which may be empty.
    Call { used: usize, name: String, arguments: String },
    /// More arguments of the same call, which may be empty.
    Arguments { used: usize, json: String },
    /// The block of calls is over.
    Leave { used: usize },
    /// These bytes are text after all, and the block is over.
    Text { used: usize },
}

/// Splits an answer into text and calls. Whitespace around calls belongs to neither and is dropped.
#[derive(Debug)]
pub(crate) struct ToolParser {
    form: Box<dyn Form>,
    held: String,
    /// The form is reading a block of calls that begins behind so many bytes of whitespace.
    reading: Option<usize>,
    /// Nothing but whitespace has come.
    fresh: bool,
    /// Nothing but whitespace has come since the last call.
    behind_call: bool,
}

impl ToolParser {
    /// Notes what the answer has been begun with; see [`Dialect::opening`].
    pub(crate) fn begin(&mut self, opening: &str) {
        self.held.push_str(opening);
    }

    /// Adds `text` and returns what is certain.
    pub(crate) fn push(&mut self, text: &str) -> Vec<Part> {
        self.held.push_str(text);
        self.advance(false)
    }

    /// Everything that is left, at the end.
    pub(crate) fn finish(&mut self) -> Vec<Part> {
        self.advance(true)
    }

    fn advance(&mut self, ended: bool) -> Vec<Part> {
        let mut parts = Vec::new();
        loop {
            if let Some(space) = self.reading {
                let step = self.form.read(&self.held[space..], ended);
                if step == Step::Wait {
                    return parts;
                }
                self.take_step(step, space, &mut parts);
                continue;
            }
            match self.form.opening(&self.held, self.fresh) {
                Opening::At(at) => {
                    let before = self.held[..at].trim_end().len();
                    self.take_text(before, false, &mut parts);
                    self.reading = Some(at - before);
                }
                Opening::NotBefore(certain) => {
                    let certain =
                        if ended { self.held.len() } else { self.held[..certain].trim_end().len() };
                    self.take_text(certain, ended, &mut parts);
                    return parts;
                }
            }
        }
    }

    /// Applies a step of a block that `space` bytes of whitespace stand before.
    fn take_step(&mut self, step: Step, space: usize, parts: &mut Vec<Part>) {
        let used = match step {
            Step::Wait => return,
            Step::Text { used } => {
                self.reading = None;
                return self.take_text(space + used, false, parts);
            }
            Step::Leave { used } => {
                self.reading = None;
                self.held.drain(..space + used);
                return;
            }
            Step::Call { used, name, arguments } => {
                (self.fresh, self.behind_call) = (false, true);
                parts.push(Part::Call(name));
                push_arguments(parts, arguments);
                used
            }
            Step::Arguments { used, json } => {
                push_arguments(parts, json);
                used
            }
        };
        self.held.drain(..space + used);
        self.reading = Some(0);
    }

    /// Takes `len` bytes of text; whitespace between a call and the end is dropped.
    fn take_text(&mut self, len: usize, ended: bool, parts: &mut Vec<Part>) {
        let text: String = self.held.drain(..len).collect();
        if text.is_empty() || (ended && self.behind_call && text.trim().is_empty()) {
            return;
        }
        (self.fresh, self.behind_call) = (false, false);
        if let Some(Part::Text(last)) = parts.last_mut() {
            last.push_str(&text);
        } else {
            parts.push(Part::Text(text));
        }
    }
}

fn push_arguments(parts: &mut Vec<Part>, json: String) {
    match parts.last_mut() {
        _ if json.is_empty() => {}
        Some(Part::Arguments(last)) => last.push_str(&json),
        _ => parts.push(Part::Arguments(json)),
    }
}

#[cfg(test)]
mod tests;
