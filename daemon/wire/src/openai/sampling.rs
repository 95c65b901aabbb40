//! The fields by which both routes say how long an answer may be and how its tokens are chosen.

use serde_json::Value;

use super::Error;
use super::fields::{Fields, is_number, must_be};

/// How tokens are chosen and what ends the answer; `None` leaves a value to the server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampling {
    /// At most this many new tokens (`max_completion_tokens`, else `max_tokens`); at least 1.
    pub max_tokens: Option<u32>,
    /// 0 to 2; 0 takes the likeliest token.
    pub temperature: Option<f32>,
    /// Above 0 up to 1: keep the likeliest tokens that together have at least this probability.
    pub top_p: Option<f32>,
    /// Keep this many of the likeliest tokens; 0 (also written -1) keeps all.
    pub top_k: Option<u32>,
    /// 0 to 1: keep tokens at least this share as likely as the likeliest; 0 keeps all.
    pub min_p: Option<f32>,
    /// 0 to 10, 1 (also written 0) for none: divides the logits of tokens seen lately (`repetition_penalty`, or llama.cpp's
    /// `repeat_penalty`).
    pub repetition_penalty: Option<f32>,
    /// How many tokens the repetition penalty looks back on (`repetition_context_size`, or llama.cpp's `repeat_last_n`).
    pub repetition_context: Option<u32>,
    /// -2 to 2: subtracted from the logits of tokens that the answer has already.
    pub presence_penalty: Option<f32>,
    /// -2 to 2: subtracted for each time that the answer has a token.
    pub frequency_penalty: Option<f32>,
    /// Added to the logits of single tokens, by token id; -100 to 100 each.
    pub logit_bias: Vec<(u32, f32)>,
    /// Makes sampling repeatable. Negative seeds are taken bit by bit.
    pub seed: Option<u64>,
    /// Texts that end the answer, none empty, at most [`Self::MAX_STOPS`].
    pub stop: Vec<String>,
    /// Tokens to draft a round, 0 to [`Self::MAX_DRAFT_TOKENS`]; 0 turns speculation off. `mlx_lm.server`'s field.
    pub num_draft_tokens: Option<u32>,
}

impl Sampling {
    /// Stop strings that one request may have.
    pub const MAX_STOPS: usize = 16;
    /// The longest draft that may be asked for.
    pub const MAX_DRAFT_TOKENS: u32 = 16;

    pub(super) fn read(fields: &mut Fields) -> Result<Self, Error> {
        refuse_what_is_not_done(fields)?;
        let max_tokens = fields.count("max_tokens")?;
        let max_tokens = fields.count("max_completion_tokens")?.or(max_tokens);
        let temperature = fields.number("temperature", 0.0..=2.0)?.map(narrow);
        let top_p = fields.number("top_p", 0.0..=1.0)?.map(narrow);
        if top_p.is_some_and(|top_p| top_p <= 0.0) {
            let message = "`top_p` must be above 0 and at most 1; use `temperature` 0 for the likeliest token";
            return Err(Error::invalid("top_p", message));
        }
        let top_k = fields.integer("top_k", -1..=i64::from(u32::MAX))?;
        let seed = match fields.take("seed") {
            None => None,
            Some(value) => {
                match value.as_u64().or_else(|| value.as_i64().map(i64::cast_unsigned)) {
                    None => {
                        return Err(must_be("seed", "a whole number of at most 64 bits", &value));
                    }
                    seed => seed,
                }
            }
        };
        let repetition = fields.number("repetition_penalty", 0.0..=10.0)?;
        let repetition = fields.number("repeat_penalty", 0.0..=10.0)?.or(repetition);
        let context = fields.integer("repetition_context_size", 0..=i64::from(u32::MAX))?;
        // llama.cpp writes -1 for the whole context.
        let last = fields.integer("repeat_last_n", -1..=i64::from(u32::MAX))?;
        let context = last.or(context).map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        let drafted = fields.integer("num_draft_tokens", 0..=i64::from(Self::MAX_DRAFT_TOKENS))?;
        Ok(Self {
            max_tokens,
            temperature,
            top_p,
            top_k: top_k.map(|top_k| u32::try_from(top_k).unwrap_or(0)),
            min_p: fields.number("min_p", 0.0..=1.0)?.map(narrow),
            repetition_penalty: repetition.filter(|penalty| *penalty > 0.0).map(narrow),
            repetition_context: context,
            presence_penalty: fields.number("presence_penalty", -2.0..=2.0)?.map(narrow),
            frequency_penalty: fields.number("frequency_penalty", -2.0..=2.0)?.map(narrow),
            logit_bias: biases(fields)?,
            seed,
            stop: stops(fields)?,
            num_draft_tokens: drafted.and_then(|drafted| u32::try_from(drafted).ok()),
        })
    }
}

/// Refuses what would change the answer and is not done here; leaving it out silently would give another distribution
/// than the one asked for.
fn refuse_what_is_not_done(fields: &mut Fields) -> Result<(), Error> {
    let why = "only 0 is supported; leave `xtc_probability` out";
    fields.only("xtc_probability", |value| is_number(value, 0.0), why)?;
    fields.only(
        "n",
        |n| is_number(n, 1.0),
        "only one answer per request is supported; send `n` = 1",
    )
}

/// `logit_bias`: an object from token ids, written as strings, to numbers.
fn biases(fields: &mut Fields) -> Result<Vec<(u32, f32)>, Error> {
    const ACCEPTED: &str = "an object from token ids to numbers between -100 and 100";
    fields
        .object("logit_bias")?
        .into_iter()
        .map(|(token, bias)| {
            let id = token.parse().ok();
            let number = bias.as_f64().filter(|bias| (-100.0..=100.0).contains(bias));
            id.zip(number.map(narrow))
                .ok_or_else(|| must_be("logit_bias", ACCEPTED, &serde_json::json!({ token: bias })))
        })
        .collect()
}

fn stops(fields: &mut Fields) -> Result<Vec<String>, Error> {
    const ACCEPTED: &str = "a string or a list of at most 16 strings, none of them empty";
    let stops = match fields.take("stop") {
        None => return Ok(Vec::new()),
        Some(Value::String(stop)) => vec![stop],
        Some(Value::Array(stops)) => {
            let texts = stops.into_iter().map(|stop| match stop {
                Value::String(stop) => Ok(stop),
                other => Err(must_be("stop", ACCEPTED, &other)),
            });
            texts.collect::<Result<_, _>>()?
        }
        Some(other) => return Err(must_be("stop", ACCEPTED, &other)),
    };
    if stops.len() > Sampling::MAX_STOPS || stops.iter().any(String::is_empty) {
        return Err(Error::invalid("stop", format!("`stop` must be {ACCEPTED}")));
    }
    Ok(stops)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "probabilities and temperatures need no more digits"
)]
const fn narrow(number: f64) -> f32 {
    number as f32
}
