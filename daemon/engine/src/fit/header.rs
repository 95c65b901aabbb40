//! The header of a safetensors file: eight bytes that say how long it is, then JSON with each tensor's type, shape and place.
//! Format: <https://github.com/huggingface/safetensors#format>.

use serde_json::Value;

/// Bytes in front of the header.
pub const LENGTH_BYTES: u64 = 8;

/// The longest header that the format allows, in bytes.
const LONGEST: u64 = 100_000_000;

/// A tensor as the header describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Its name, such as `model.layers.0.mlp.up_proj.weight`.
    pub name: String,
    /// Its type, such as `BF16`.
    pub dtype: String,
    /// How many numbers it has; packed weights are counted by words.
    pub elements: u64,
    /// Bytes in the file.
    pub bytes: u64,
}

/// How long the header is, in bytes, from the file's first eight bytes. The error says what is wrong with the file.
pub fn length(first: &[u8]) -> Result<u64, String> {
    let first: [u8; 8] = first
        .get(..8)
        .and_then(|first| first.try_into().ok())
        .ok_or("the file ends before its header begins")?;
    match u64::from_le_bytes(first) {
        length @ 2..=LONGEST => Ok(length),
        length => Err(format!("not a safetensors file: its header would be {length} bytes long")),
    }
}

/// The tensors, in the header's order, and how many bytes of data they say follow it.
pub fn tensors(header: &[u8]) -> Result<(Vec<Tensor>, u64), String> {
    let header: Value = serde_json::from_slice(header)
        .map_err(|error| format!("its header is not JSON: {error}"))?;
    let header = header.as_object().ok_or("its header is not a JSON object")?;
    let mut data_bytes = 0;
    let mut tensors = Vec::with_capacity(header.len());
    for (name, raw) in header.iter().filter(|(name, _)| *name != "__metadata__") {
        let (tensor, end) =
            tensor(name, raw).ok_or_else(|| format!("its header describes {name} wrongly"))?;
        data_bytes = data_bytes.max(end);
        tensors.push(tensor);
    }
    Ok((tensors, data_bytes))
}

/// One tensor and where it ends.
fn tensor(name: &str, raw: &Value) -> Option<(Tensor, u64)> {
    let shape = raw.get("shape")?.as_array()?;
    let elements = shape.iter().try_fold(1_u64, |all, dim| all.checked_mul(dim.as_u64()?))?;
    let offsets = raw.get("data_offsets")?.as_array()?;
    let [start, end] = offsets.as_slice() else { return None };
    let end = end.as_u64()?;
    let bytes = end.checked_sub(start.as_u64()?)?;
    let dtype = raw.get("dtype")?.as_str()?.to_owned();
    Some((Tensor { name: name.to_owned(), dtype, elements, bytes }, end))
}
