//! Rotary positions: which angle turns which pair of numbers at which position. Formulas and names of the settings are those
//! of mlx_lm's `rope_utils`, operation by operation, so that angles agree to the last bit.

use std::f64::consts::TAU;

use mlx_rs::{Array, ops};

use crate::checkpoint::config::single;
use crate::checkpoint::fields::Fields;
use crate::error::Result;

/// How a model's positions turn.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rope {
    pub(crate) theta: f32,
    /// Whether neighbours are paired with each other, and not halves.
    pub(crate) traditional: bool,
    pub(crate) scaling: Scaling,
}

/// How angles are changed for longer contexts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scaling {
    None,
    /// Positions divided by a factor.
    Linear {
        factor: f32,
    },
    /// Long waves stretched by a factor, short ones kept, those between blended (Llama 3.1).
    Llama3 {
        factor: f32,
        low: f64,
        high: f64,
        original: f64,
    },
    /// The same idea with a linear ramp over the pairs, and a factor on what is rotated (YaRN, arXiv 2309.00071).
    Yarn {
        factor: f64,
        original: f64,
        beta_fast: f64,
        beta_slow: f64,
        mscale: f64,
        mscale_all_dim: f64,
    },
}

const SUPPORTED: &str = "default, linear, llama3, yarn";

impl Rope {
    /// The rotation that `config.json` describes; newer writers nest everything in `rope_parameters`.
    pub(crate) fn read(fields: &Fields, theta: f64) -> Result<Self> {
        let scaling = match fields.within("rope_scaling")? {
            None => fields.within("rope_parameters")?,
            some => some,
        };
        Self::from(fields, scaling.as_ref(), "rope_theta", theta)
    }

    /// The rotation of one kind of layer, in families where kinds differ: nested by kind, or else a base in `base` and, for
    /// the layers that see everything, the usual `rope_scaling`.
    pub(crate) fn read_for(fields: &Fields, kind: &str, base: &str, theta: f64) -> Result<Self> {
        if let Some(nested) = fields.within("rope_parameters")?
            && let Some(nested) = nested.within(kind)?
        {
            return Self::from(fields, Some(&nested), base, theta);
        }
        let scaling = match kind {
            "full_attention" => fields.within("rope_scaling")?,
            _ => None,
        };
        Self::from(fields, scaling.as_ref(), base, theta)
    }

    fn from(fields: &Fields, scaling: Option<&Fields>, base: &str, default: f64) -> Result<Self> {
        let nested = scaling.filter(|scaling| scaling.get("rope_theta").is_some());
        let theta = match nested {
            Some(nested) if fields.get(base).is_none() => nested.above_zero("rope_theta")?,
            _ => fields.above_zero_or(base, default)?,
        };
        let partial = [Some(fields), scaling].into_iter().flatten();
        for fields in partial.filter(|fields| fields.get("partial_rotary_factor").is_some()) {
            let part = fields.number("partial_rotary_factor")?;
            if (part - 1.0).abs() > f64::EPSILON {
                let what = format!("partial_rotary_factor {part}");
                return Err(fields.unsupported(what, "rotation of whole heads"));
            }
        }
        Ok(Self {
            theta: single(theta),
            traditional: fields.flag("rope_traditional", false)?,
            scaling: scaling.map_or(Ok(Scaling::None), Scaling::read)?,
        })
    }

    /// The context that the scaling was made for, in tokens; 0 where it does not say.
    pub(crate) fn context_tokens(&self) -> u32 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "both are above 0, and the conversion saturates"
        )]
        match self.scaling {
            Scaling::Yarn { factor, original, .. } => (factor * original) as u32,
            _ => 0,
        }
    }

    /// Factor on positions.
    pub(crate) const fn position_factor(&self) -> f32 {
        match self.scaling {
            Scaling::Linear { factor } => 1.0 / factor,
            _ => 1.0,
        }
    }

    /// Factor on what is rotated.
    pub(crate) fn magnitude(&self) -> f32 {
        let Scaling::Yarn { factor, mscale, mscale_all_dim, .. } = self.scaling else { return 1.0 };
        let of = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 };
        single(of(mscale) / of(mscale_all_dim))
    }

    /// Positions per radian for each pair of a head of `length`; `None` where they follow from the base alone.
    pub(crate) fn periods(&self, length: i32) -> Result<Option<Array>> {
        match self.scaling {
            Scaling::None | Scaling::Linear { .. } => Ok(None),
            Scaling::Llama3 { factor, low, high, original } => {
                let plain = self.plain_periods(length)?;
                stretched(&plain, factor, low, high, original).map(Some)
            }
            Scaling::Yarn { factor, original, beta_fast, beta_slow, .. } => {
                let plain = self.plain_periods(length)?;
                // The pair that turns so many times in the original context.
                let pair = |turns: f64| {
                    f64::from(length) * (original / (turns * TAU)).ln()
                        / (2.0 * f64::from(self.theta).ln())
                };
                let first = pair(beta_fast).floor().max(0.0);
                let last = pair(beta_slow).ceil().min(f64::from(length - 1));
                blended(&plain, factor, first, last).map(Some)
            }
        }
    }

    fn plain_periods(&self, length: i32) -> Result<Array> {
        let exponents = ops::arange::<i32, f32>(0, length, 2)?;
        let exponents = ops::divide(exponents, number(f64::from(length)))?;
        Ok(ops::power(Array::from_f32(self.theta), exponents)?)
    }
}

impl Scaling {
    fn read(fields: &Fields) -> Result<Self> {
        let kind = fields.get("type").or_else(|| fields.get("rope_type"));
        match kind.map_or(Some("default"), |kind| kind.as_str()) {
            Some("default") => Ok(Self::None),
            Some("linear") => Ok(Self::Linear { factor: single(fields.above_zero("factor")?) }),
            Some("llama3") => Ok(Self::Llama3 {
                factor: single(fields.above_zero("factor")?),
                low: fields.above_zero_or("low_freq_factor", 1.0)?,
                high: fields.above_zero_or("high_freq_factor", 4.0)?,
                original: fields.above_zero_or("original_max_position_embeddings", 8192.0)?,
            }),
            Some("yarn") => Ok(Self::Yarn {
                factor: fields.above_zero("factor")?,
                original: fields.above_zero_or("original_max_position_embeddings", 4096.0)?,
                beta_fast: fields.above_zero_or("beta_fast", 32.0)?,
                beta_slow: fields.above_zero_or("beta_slow", 1.0)?,
                mscale: fields.number_or("mscale", 1.0)?,
                mscale_all_dim: fields.number_or("mscale_all_dim", 0.0)?,
            }),
            _ => {
                let kind = kind.map(ToString::to_string).unwrap_or_default();
                Err(fields.unsupported(format!("rope type {kind}"), SUPPORTED))
            }
        }
    }
}

fn number(number: f64) -> Array {
    Array::from_f32(single(number))
}

/// Periods whose waves are longer than `original / low` times `factor`, those shorter than `original / high` as they are.
fn stretched(plain: &Array, factor: f32, low: f64, high: f64, original: f64) -> Result<Array> {
    let factor = Array::from_f32(factor);
    let one = Array::from_f32(1.0);
    let (longest, shortest) = (number(original / low), number(original / high));
    let waves = ops::multiply(number(TAU), plain)?;
    let long = ops::gt(&waves, &longest)?;
    let periods = ops::select(long, ops::multiply(plain, &factor)?, plain)?;
    let between = ops::logical_and(ops::gt(&waves, shortest)?, ops::lt(&waves, longest)?)?;
    let smooth = ops::subtract(ops::divide(number(original), &waves)?, number(low))?;
    let smooth = ops::divide(smooth, number(high - low))?;
    let share = ops::divide(ops::subtract(one, &smooth)?, factor)?;
    let blend = ops::divide(&periods, ops::add(share, smooth)?)?;
    Ok(ops::select(between, blend, periods)?)
}

/// Periods as they are up to the pair `first`, times `factor` from the pair `last` on, blended between.
fn blended(plain: &Array, factor: f64, first: f64, last: f64) -> Result<Array> {
    let last = if (first - last).abs() < f64::EPSILON { last + 0.001 } else { last };
    let one = Array::from_f32(1.0);
    let long = ops::multiply(number(factor), plain)?;
    let ramp = ops::arange::<i32, f32>(None, plain.dim(0), None)?;
    let ramp = ops::divide(ops::subtract(ramp, number(first))?, number(last - first))?;
    let ramp = ops::minimum(ops::maximum(ramp, Array::from_f32(0.0))?, &one)?;
    let kept = ops::subtract(&one, ramp)?;
    let below =
        ops::add(ops::multiply(&long, &kept)?, ops::multiply(plain, ops::subtract(&one, &kept)?)?)?;
    Ok(ops::divide(ops::multiply(long, plain)?, below)?)
}
