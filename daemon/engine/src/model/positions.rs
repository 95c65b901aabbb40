//! What follows from positions alone and is shared by the layers of a pass: how queries and keys are rotated, and which
//! tokens see which.

use mlx_rs::ops::indexing::{IntoStrideBy, TryIndexOp};
use mlx_rs::{Array, fast, ops, transforms};

use super::fused;
use super::rope::Rope;
use crate::checkpoint::config::ModelConfig;
use crate::error::Result;
use crate::linear::Device;

/// Positions whose rotations are kept on CPUs; those behind are computed each time.
const KEPT: i32 = 8192;

/// What is the same for every pass.
#[derive(Debug)]
pub(super) struct Positions {
    device: Device,
    rotations: Vec<Rotation>,
    window: Option<i32>,
    /// Query heads per key head.
    group: i32,
}

/// What is the same for every layer of a pass.
pub(super) struct Step<'a> {
    rotations: Vec<Turn<'a>>,
    everything: View,
    window: Option<View>,
}

/// What the rows of a pass see.
#[derive(Debug)]
pub(super) struct View {
    /// The first position that any of them sees.
    pub(super) from: i32,
    /// How many positions a row sees at most, its own among them, where that limits any.
    pub(super) window: Option<i32>,
    pub(super) mask: Mask,
}

/// Which of the positions from the first on each row sees.
#[derive(Debug)]
pub(super) enum Mask {
    /// All.
    None,
    /// All up to its own.
    Causal,
    /// Those marked: `[rows, positions]`; on CPUs once for each query head of a key head.
    Marked(Array),
}

#[derive(Debug)]
enum Rotation {
    Cpu(Table),
    Gpu(Kernel),
}

/// The rotation of one pass.
pub(super) enum Turn<'a> {
    Cpu { turns: Turns, traditional: bool },
    Gpu { kernel: &'a Kernel, start: i32 },
}

/// Rotations by position.
#[derive(Debug)]
struct Table {
    frequencies: Array,
    position_factor: Option<Array>,
    magnitude: Option<Array>,
    traditional: bool,
    kept: i32,
    kept_turns: Turns,
}

/// Cosine and signed sine of the rotation: `[positions, 2, half]`, or `[positions, half, 2]` in the traditional form.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    pub(super) cos: Array,
    pub(super) sin: Array,
    /// Which of them belong to the first row.
    pub(super) first: i32,
}

/// The settings of the fused rotation.
#[derive(Debug)]
pub(super) struct Kernel {
    length: i32,
    base: Option<f32>,
    periods: Option<Array>,
    position_factor: f32,
    magnitude: f32,
    traditional: bool,
}

impl Positions {
    pub(super) fn new(config: &ModelConfig, device: Device) -> Result<Self> {
        let length = config.attention.head_dim;
        let kept = KEPT.min(i32::try_from(config.context_tokens).unwrap_or(KEPT));
        let rotation = |rope: &Rope| {
            Ok(match device {
                Device::Cpu => Rotation::Cpu(Table::new(rope, length, kept)?),
                Device::Gpu => Rotation::Gpu(Kernel::new(rope, length)?),
            })
        };
        Ok(Self {
            device,
            rotations: config.ropes.iter().map(rotation).collect::<Result<_>>()?,
            window: config.window,
            group: config.attention.heads / config.attention.kv_heads,
        })
    }

    /// What the layers share when `rows` tokens follow `start` others.
    pub(super) fn step(&self, start: i32, rows: i32) -> Result<Step<'_>> {
        let rotations = self.rotations.iter().map(|rotation| match rotation {
            Rotation::Cpu(table) => Ok(Turn::Cpu {
                turns: table.between(start, start + rows)?,
                traditional: table.traditional,
            }),
            Rotation::Gpu(kernel) => Ok(Turn::Gpu { kernel, start }),
        });
        Ok(Step {
            rotations: rotations.collect::<Result<_>>()?,
            everything: View { from: 0, window: None, mask: self.mask(start, rows, 0, None)? },
            window: self.window.map(|window| self.window(start, rows, window)).transpose()?,
        })
    }

    fn window(&self, start: i32, rows: i32, window: i32) -> Result<View> {
        let from = (start + 1 - window).max(0);
        // Where the last row still sees the first position, no row is limited.
        let limit = (start + rows > window).then_some(window);
        Ok(View { from, window: limit, mask: self.mask(start, rows, from, limit)? })
    }

    fn mask(&self, start: i32, rows: i32, from: i32, window: Option<i32>) -> Result<Mask> {
        if rows == 1 {
            return Ok(Mask::None);
        }
        // One operation knows by itself what is seen.
        if if self.device == Device::Cpu { fused::are_here() } else { window.is_none() } {
            return Ok(Mask::Causal);
        }
        let query = ops::arange::<i32, i32>(start, start + rows, None)?;
        let repeat = if self.device == Device::Cpu { self.group } else { 1 };
        let query = ops::broadcast_to(query, &[repeat, rows])?;
        let query = ops::reshape(query, &[repeat * rows, 1])?;
        let key = ops::arange::<i32, i32>(from, start + rows, None)?;
        let mut mask = ops::ge(&query, &key)?;
        if let Some(window) = window {
            let near = ops::lt(query, ops::add(key, Array::from_int(window))?)?;
            mask = ops::logical_and(mask, near)?;
        }
        Ok(Mask::Marked(mask))
    }
}

impl Step<'_> {
    /// One of the model's rotations.
    pub(super) fn turn(&self, rope: usize) -> &Turn<'_> {
        &self.rotations[rope]
    }

    /// What a layer sees.
    pub(super) fn view(&self, sliding: bool) -> &View {
        self.window.as_ref().filter(|_| sliding).unwrap_or(&self.everything)
    }
}

impl Table {
    fn new(rope: &Rope, length: i32, kept: i32) -> Result<Self> {
        let half = length / 2;
        // The same operations as in MLX's own fallback, so that the angles agree to the last bit.
        let frequencies = if let Some(periods) = rope.periods(length)? {
            ops::reciprocal(periods)?
        } else {
            let exponents = ops::arange::<i32, f32>(0, -half, -1)?;
            let factor = Array::from_f32(rope.theta.ln() / half as f32);
            ops::exp(ops::multiply(exponents, factor)?)?
        };
        let mut table = Self {
            frequencies,
            position_factor: unless_one(rope.position_factor()),
            magnitude: unless_one(rope.magnitude()),
            traditional: rope.traditional,
            kept: 0,
            kept_turns: Turns { cos: Array::from_f32(1.0), sin: Array::from_f32(0.0), first: 0 },
        };
        table.kept_turns = table.computed(0, kept)?;
        table.kept = kept;
        let Turns { cos, sin, .. } = &table.kept_turns;
        transforms::eval([cos, sin])?;
        Ok(table)
    }

    fn between(&self, start: i32, end: i32) -> Result<Turns> {
        if end > self.kept {
            return self.computed(start, end);
        }
        if fused::are_here() {
            return Ok(Turns { first: start, ..self.kept_turns.clone() });
        }
        Ok(Turns {
            cos: self.kept_turns.cos.try_index(start..end)?,
            sin: self.kept_turns.sin.try_index(start..end)?,
            first: 0,
        })
    }

    fn computed(&self, start: i32, end: i32) -> Result<Turns> {
        let mut positions = ops::arange::<i32, f32>(start, end, None)?;
        if let Some(factor) = &self.position_factor {
            positions = ops::multiply(positions, factor)?;
        }
        let angles = ops::multiply(ops::expand_dims(positions, 1)?, &self.frequencies)?;
        let (mut cos, mut sin) = (ops::cos(&angles)?, ops::sin(&angles)?);
        if let Some(magnitude) = &self.magnitude {
            (cos, sin) = (ops::multiply(cos, magnitude)?, ops::multiply(sin, magnitude)?);
        }
        // Halves are paired with each other, or neighbours in the traditional form.
        let axis = if self.traditional { 2 } else { 1 };
        Ok(Turns {
            cos: ops::stack(&[&cos, &cos], axis)?,
            sin: ops::stack(&[&ops::negative(&sin)?, &sin], axis)?,
            first: 0,
        })
    }
}

impl Turns {
    /// `x` rotated: `[heads, rows, 2, half]`, or `[heads, rows, half, 2]` in the traditional form.
    pub(super) fn apply(&self, x: &Array, traditional: bool) -> Result<Array> {
        let swapped = if traditional {
            x.try_index((.., .., .., (..).stride_by(-1)))?
        } else {
            x.try_index((.., .., (..).stride_by(-1), ..))?
        };
        Ok(ops::add(ops::multiply(x, &self.cos)?, ops::multiply(swapped, &self.sin)?)?)
    }
}

impl Kernel {
    fn new(rope: &Rope, length: i32) -> Result<Self> {
        let periods = rope.periods(length)?;
        if let Some(periods) = &periods {
            periods.eval()?;
        }
        Ok(Self {
            length,
            base: periods.is_none().then_some(rope.theta),
            periods,
            position_factor: rope.position_factor(),
            magnitude: rope.magnitude(),
            traditional: rope.traditional,
        })
    }

    /// `x` rotated, `[1, heads, rows, length]`, of which the first row is at `start`.
    pub(super) fn apply(&self, x: &Array, start: i32) -> Result<Array> {
        let scaled = unless_one(self.magnitude)
            .map(|magnitude| ops::multiply(x, magnitude.as_dtype(x.dtype())?))
            .transpose()?;
        Ok(fast::rope(
            scaled.as_ref().unwrap_or(x),
            self.length,
            self.traditional,
            self.base,
            self.position_factor,
            start,
            self.periods.as_ref(),
        )?)
    }
}

/// A factor that changes something.
pub(super) fn unless_one(factor: f32) -> Option<Array> {
    ((factor - 1.0).abs() > f32::EPSILON).then(|| Array::from_f32(factor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::rope::Scaling;

    fn numbers(array: &Array) -> Vec<f32> {
        ops::reshape(array, &[-1]).unwrap().to_vec_cast::<f32>().unwrap()
    }

    #[test]
    fn positions_behind_the_kept_ones_turn_the_same_way() {
        fused::BY_STEPS.set(true);
        for scaling in [Scaling::None, Scaling::Linear { factor: 4.0 }] {
            let rope = Rope { theta: 1e4, traditional: false, scaling };
            let short = Table::new(&rope, 8, 16).unwrap();
            let long = Table::new(&rope, 8, 64).unwrap();
            for (start, end) in [(0, 16), (10, 30), (40, 41)] {
                let (a, b) =
                    (short.between(start, end).unwrap(), long.between(start, end).unwrap());
                assert_eq!(numbers(&a.cos), numbers(&b.cos));
                assert_eq!(numbers(&a.sin), numbers(&b.sin));
            }
        }
    }

    #[test]
    fn a_window_shows_a_row_itself_and_those_just_before() {
        fused::BY_STEPS.set(true);
        let positions =
            Positions { device: Device::Cpu, rotations: vec![], window: Some(3), group: 2 };
        let seen = |start: i32, rows: i32| {
            let step = positions.step(start, rows).unwrap();
            let View { from, mask, .. } = step.window.unwrap();
            let Mask::Marked(mask) = mask else { return (from, vec![]) };
            assert_eq!(mask.dim(0), 2 * rows, "once for each query head of a key head");
            let marks = numbers(&mask.as_dtype(mlx_rs::Dtype::Float32).unwrap());
            let width = usize::try_from(mask.dim(1)).unwrap();
            let row =
                |row: &[f32]| row.iter().map(|mark| if *mark > 0.0 { 'x' } else { '.' }).collect();
            (from, marks.chunks(width).take(rows.unsigned_abs() as usize).map(row).collect())
        };
        let drawn = |rows: &[&str]| rows.iter().map(ToString::to_string).collect::<Vec<String>>();
        assert_eq!(seen(0, 3), (0, drawn(&["x..", "xx.", "xxx"])));
        assert_eq!(seen(0, 4), (0, drawn(&["x...", "xx..", "xxx.", ".xxx"])));
        assert_eq!(seen(5, 2), (3, drawn(&["xxx.", ".xxx"])));
        assert_eq!(seen(5, 1), (3, vec![]));
        assert_eq!(seen(1, 1), (0, vec![]));
    }
}
