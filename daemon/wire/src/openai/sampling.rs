//! The fields by which both routes say how long an answer may be and how its tokens are chosen.

use serde_json::Value;

use super::Error;
use super::fields::{Fields, is_empty, is_number, must_be};

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
        refuse_other_sampling(fields)?;
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
        let drafted = fields.integer("num_draft_tokens", 0..=i64::from(Self::MAX_DRAFT_TOKENS))?;
        Ok(Self {
            max_tokens,
            temperature,
            top_p,
            top_k: top_k.map(|top_k| u32::try_from(top_k).unwrap_or(0)),
            seed,
            stop: stops(fields)?,
            num_draft_tokens: drafted.and_then(|drafted| u32::try_from(drafted).ok()),
        })
    }
}

/// Refuses what would change the answer and is not done here; leaving it out silently would give another distribution
/// than the one asked for.
fn refuse_other_sampling(fields: &mut Fields) -> Result<(), Error> {
    for name in ["presence_penalty", "frequency_penalty", "min_p", "xtc_probability"] {
        let why = format!("only 0 is supported; leave `{name}` out");
        fields.only(name, |value| is_number(value, 0.0), &why)?;
    }
    for name in ["repetition_penalty", "repeat_penalty"] {
        let why = format!("only 1 is supported; leave `{name}` out");
        let neutral = |value: &Value| is_number(value, 1.0) || is_number(value, 0.0);
        fields.only(name, neutral, &why)?;
    }
    fields.only("logit_bias", is_empty, "biases are not supported; leave `logit_bias` out")?;
    fields.only(
        "n",
        |n| is_number(n, 1.0),
        "only one answer per request is supported; send `n` = 1",
    )
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
