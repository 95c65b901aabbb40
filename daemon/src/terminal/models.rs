//! Models as text: the list of those at hand, what a download brought, and whether models fit a machine. At most 80 columns.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};

use super::Screen;
use super::account::wrap;
use super::format::{clip, per_cent, share, size, speed, thousands};
use super::table::{Align, columns};

/// The widest line.
const WIDTH: usize = 80;

/// Used of the memory from which on there is little left for anything else, in parts of 1.
const TIGHT: f64 = 0.9;

/// Weights below this may stay in a processor's caches, in bytes.
const CACHES: u64 = 64_000_000;

/// A model at hand.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What it is asked for by.
    pub name: String,
    /// Bytes on disk, all revisions and unfinished downloads included.
    pub bytes: u64,
    /// Its family.
    pub model_type: Option<String>,
    /// `4-bit` and so on, or `none`.
    pub quantisation: Option<String>,
    /// What it lacks to be whole.
    pub lacking: Option<String>,
    /// Why the engine cannot run it.
    pub problem: Option<String>,
    /// Where it is.
    pub folder: Option<PathBuf>,
}

impl Row {
    const fn state(&self) -> &'static str {
        match (&self.lacking, &self.problem) {
            (Some(_), _) => "part",
            (None, Some(_)) => "no",
            (None, None) => "ready",
        }
    }
}

/// An amount of data.
pub fn bytes(bytes: u64) -> String {
    size(bytes)
}

/// The list of models.
pub fn list(models: &[Row], cache: &Path, screen: Screen) -> String {
    let head = ["model", "size", "type", "bits", "state"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(models.iter().map(|model| {
        vec![
            clip(&model.name, 46),
            size(model.bytes),
            clip(model.model_type.as_deref().unwrap_or("-"), 10),
            model.quantisation.clone().unwrap_or_else(|| "-".to_owned()),
            model.state().to_owned(),
        ]
    }));
    let aligns = [Align::Left, Align::Right, Align::Left, Align::Left, Align::Left];
    let mut table = columns(&aligns, &rows).into_iter();
    let mut lines: Vec<String> = table.next().iter().map(|head| screen.faint(head)).collect();
    for (line, model) in table.zip(models) {
        lines.push(line);
        let why = match (&model.lacking, &model.problem) {
            (Some(lacking), _) => {
                format!("{lacking}: `dwell models pull {}` fetches what is missing", model.name)
            }
            (None, Some(problem)) => problem.clone(),
            (None, None) => continue,
        };
        lines.extend(wrap(&why, WIDTH - 2).iter().map(|line| screen.faint(&format!("  {line}"))));
    }
    let note = format!("the cache is {}", cache.display());
    lines.extend(wrap(&note, WIDTH).iter().map(|line| screen.faint(line)));
    format!("{}\n", lines.join("\n"))
}

/// What a download brought.
pub fn pulled(name: &str, bytes: u64, fetched: u64, folder: &Path, screen: Screen) -> String {
    let what = match fetched {
        0 => format!("{name} is here already and up to date, {}", size(bytes)),
        fetched => format!("{name} is here, {}, of which {} came now", size(bytes), size(fetched)),
    };
    format!(
        "{}\n{}\nuse it: dwell serve --engine {name}\n",
        screen.good(&what),
        screen.faint(&folder.display().to_string())
    )
}

/// A model on the machine that is asked about.
#[derive(Clone, Debug, Serialize)]
pub struct Fit {
    /// What it is called.
    pub name: String,
    /// Its family.
    pub model_type: String,
    /// `4-bit` and so on, or `none`.
    pub quantisation: String,
    /// Whether it runs on a GPU.
    pub on_gpu: bool,
    /// Whether its quantised weights are held as 32-bit numbers.
    pub unpacked: bool,
    /// Its weights on disk.
    pub stored_bytes: u64,
    /// Its weights in memory.
    pub weights_bytes: u64,
    /// What a token of context takes.
    pub kv_bytes_per_token: u64,
    /// What the context takes.
    pub kv_bytes: u64,
    /// The longest context that it was made for.
    pub most_context_tokens: Option<u32>,
    /// Why the engine cannot run it.
    pub problem: Option<String>,
}

/// Memory needed and there.
#[derive(Clone, Debug, Serialize)]
pub struct MemoryUse {
    /// What all models take.
    pub needed_bytes: u64,
    /// What they may take.
    pub usable_bytes: u64,
    /// Where that figure comes from.
    pub source: String,
    /// The longest context that fits; 0 when not even the weights do.
    pub longest_context_tokens: u64,
}

/// Whether target and draft have the same tokens.
#[derive(Clone, Debug, Serialize)]
pub struct Vocabularies {
    /// Rows of the output layers of target and draft; tokenizers have fewer.
    pub rows: [u32; 2],
    /// `None` when it cannot be told.
    pub agree: Option<bool>,
    /// The first difference.
    pub difference: Option<String>,
}

/// The speed that the bandwidth allows.
#[derive(Clone, Debug, Serialize)]
pub struct Speed {
    /// Bytes per second.
    pub bandwidth_bytes_per_second: f64,
    /// Where that figure comes from.
    pub source: String,
    /// The most tokens per second while the context is short.
    pub short_tokens_per_second: f64,
    /// The most tokens per second with the context full.
    pub tokens_per_second: f64,
    /// With the draft model.
    pub drafting: Option<Drafting>,
}

/// What drafting can give.
#[derive(Clone, Debug, Serialize)]
pub struct Drafting {
    /// Tokens drafted a round.
    pub draft_tokens: u32,
    /// The most tokens per second, when every one is accepted.
    pub most_tokens_per_second: f64,
    /// The acceptance rate from which on it is faster than plain decoding; `None` when it never is.
    pub pays_from_acceptance: Option<f64>,
}

/// What was found out.
#[derive(Clone, Debug, Serialize)]
pub struct View {
    /// Target, and draft where there is one.
    pub models: Vec<Fit>,
    /// The context that was asked about.
    pub context_tokens: u32,
    /// Memory.
    pub memory: MemoryUse,
    /// Whether the pair goes together.
    pub vocabularies: Option<Vocabularies>,
    /// The bound on the speed, where the bandwidth is known.
    pub speed: Option<Speed>,
}

impl View {
    /// Whether the models fit, go together as far as that can be told, and can be run.
    pub fn all_well(&self) -> bool {
        let fits = self.memory.needed_bytes <= self.memory.usable_bytes;
        let together = self.vocabularies.as_ref().is_none_or(|both| both.agree != Some(false));
        fits && together && self.models.iter().all(|model| model.problem.is_none())
    }
}

/// What was found out as data: the facts, whether all is well, and the verdict's sentences.
pub fn check_json(view: &View) -> Value {
    let mut facts = serde_json::to_value(view).unwrap_or(Value::Null);
    if let Some(facts) = facts.as_object_mut() {
        facts.insert("fits".to_owned(), json!(view.all_well()));
        let verdict: Vec<String> = verdict(view).into_iter().map(|(_, text)| text).collect();
        facts.insert("verdict".to_owned(), json!(verdict));
    }
    facts
}

/// What was found out as text: the verdict, then the figures.
pub fn check(view: &View, screen: Screen) -> String {
    let mut lines = Vec::new();
    for (tone, text) in verdict(view) {
        lines.extend(wrap(&text, WIDTH).iter().map(|line| match tone {
            Tone::Good => screen.good(line),
            Tone::Bad => screen.bad(line),
            Tone::Plain => line.clone(),
        }));
    }
    lines.push(String::new());
    lines.extend(figures(view, screen));
    format!("{}\n", lines.join("\n"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tone {
    Good,
    Bad,
    Plain,
}

fn verdict(view: &View) -> Vec<(Tone, String)> {
    let mut said = Vec::new();
    said.extend(view.models.iter().filter_map(|model| {
        Some((Tone::Bad, format!("This engine cannot run it: {}", model.problem.as_ref()?)))
    }));
    said.push(memory(view));
    said.extend(longer_than_made_for(view));
    said.extend(view.vocabularies.as_ref().map(together));
    match &view.speed {
        Some(speed) => said.extend(fastest(speed, view)),
        None => said.push((
            Tone::Plain,
            "How fast it can be is not told: the memory's bandwidth is not known, say it with --bandwidth.".to_owned(),
        )),
    }
    said
}

fn memory(view: &View) -> (Tone, String) {
    let MemoryUse { needed_bytes, usable_bytes, source, longest_context_tokens } = &view.memory;
    let used = *needed_bytes as f64 / (*usable_bytes).max(1) as f64;
    let amounts = format!(
        "{} of {} ({source}) with {} tokens of context",
        size(*needed_bytes),
        size(*usable_bytes),
        thousands(view.context_tokens.into())
    );
    if used <= TIGHT {
        return (
            Tone::Good,
            format!("It fits: {amounts}, {}.", share(*needed_bytes, *usable_bytes)),
        );
    }
    if used <= 1.0 {
        return (
            Tone::Plain,
            format!(
                "It barely fits: {amounts}. What computing takes beside it may not fit any more."
            ),
        );
    }
    let instead = match longest_context_tokens {
        0 => "The weights alone are too large: take fewer bits, or a smaller model.".to_owned(),
        tokens => format!("With --context {tokens} it would."),
    };
    (Tone::Bad, format!("It does not fit: it takes {amounts}. {instead}"))
}

fn longer_than_made_for(view: &View) -> Option<(Tone, String)> {
    let most = view.models.first()?.most_context_tokens?;
    (view.context_tokens > most).then(|| {
        (
            Tone::Plain,
            format!("The model was made for {} tokens of context at most.", thousands(most.into())),
        )
    })
}

fn together(both: &Vocabularies) -> (Tone, String) {
    let rows = both.rows.map(|rows| thousands(rows.into()));
    let rows = if rows[0] == rows[1] {
        format!("{} rows each", rows[0])
    } else {
        format!("{} and {} rows, which may differ", rows[0], rows[1])
    };
    match (both.agree, &both.difference) {
        (Some(true), _) => (Tone::Good, format!("The vocabularies agree ({rows}).")),
        (Some(false), difference) => {
            let difference = difference.as_deref().unwrap_or("their tokens differ");
            (
                Tone::Bad,
                format!(
                    "The vocabularies do not agree: {difference}. It cannot draft for this model."
                ),
            )
        }
        (None, _) => (
            Tone::Plain,
            format!("Whether the vocabularies agree ({rows}) shows when both models are fetched."),
        ),
    }
}

fn fastest(bound: &Speed, view: &View) -> Vec<(Tone, String)> {
    let target = view.models.first();
    let note = match target {
        Some(target) if target.weights_bytes < CACHES => {
            " So small a model may be faster: it stays in the processor's caches."
        }
        Some(target) if target.on_gpu => " Apple GPUs usually reach 40 to 80 % of that.",
        _ => "",
    };
    let plain = format!(
        "{}/s ({}) let it decode at most {} tokens/s, {} with {} tokens of context.{note}",
        size_of(bound.bandwidth_bytes_per_second),
        bound.source,
        speed(bound.short_tokens_per_second),
        speed(bound.tokens_per_second),
        thousands(view.context_tokens.into())
    );
    let mut said = vec![(Tone::Plain, plain)];
    if let Some(drafting) = &bound.drafting {
        let Drafting { draft_tokens, most_tokens_per_second, pays_from_acceptance } = drafting;
        said.push(match pays_from_acceptance {
            Some(rate) => (
                Tone::Plain,
                format!(
                    "Drafting {draft_tokens} tokens a round gives at most {} tokens/s, when every one is accepted, and pays \
                     from {} acceptance on.",
                    speed(*most_tokens_per_second),
                    per_cent(*rate)
                ),
            ),
            None => (
                Tone::Bad,
                format!("Drafting {draft_tokens} tokens a round never pays: it reads more than it saves."),
            ),
        });
    }
    said
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "amounts are above 0")]
fn size_of(bytes: f64) -> String {
    size(bytes as u64)
}

const fn placed(model: &Fit) -> &'static str {
    match (model.on_gpu, model.unpacked) {
        (true, _) => "GPU, as stored",
        (false, false) => "CPU, as stored",
        (false, true) => "CPU, as 32-bit numbers",
    }
}

fn figures(view: &View, screen: Screen) -> Vec<String> {
    let row = |name: &str, value: &dyn Fn(&Fit) -> String| {
        std::iter::once(name.to_owned()).chain(view.models.iter().map(value)).collect::<Vec<_>>()
    };
    let rows = [
        row("", &|model| clip(model.name.rsplit('/').next().unwrap_or_default(), 30)),
        row("type", &|model| model.model_type.clone()),
        row("quantisation", &|model| model.quantisation.clone()),
        row("weights stored", &|model| size(model.stored_bytes)),
        row("placed", &|model| placed(model).to_owned()),
        row("weights", &|model| size(model.weights_bytes)),
        row("KV per token", &|model| size(model.kv_bytes_per_token)),
        row("KV", &|model| size(model.kv_bytes)),
        row("together", &|model| size(model.weights_bytes.saturating_add(model.kv_bytes))),
    ];
    let mut aligns = vec![Align::Right; view.models.len() + 1];
    aligns[0] = Align::Left;
    let mut lines = columns(&aligns, &rows);
    lines[0] = screen.faint(&lines[0]);
    lines
}
