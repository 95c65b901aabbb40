//! Which families of models there are: one file each, that says how the family's `config.json` describes its layers. What
//! layers do is the other files' business. A new family is a file and a line in [`FAMILIES`].

mod gemma3;
mod granite;
mod llama;
mod qwen2;
mod qwen3;
mod qwen3_moe;

use crate::checkpoint::config::ModelConfig;
use crate::checkpoint::fields::Fields;
use crate::error::Result;

type Read = fn(&Fields) -> Result<ModelConfig>;

/// `model_type`, and what reads it.
const FAMILIES: &[(&str, Read)] = &[
    ("qwen2", qwen2::read),
    ("qwen3", qwen3::read),
    ("qwen3_moe", qwen3_moe::read),
    ("llama", llama::read),
    ("mistral", llama::read),
    ("gemma3_text", gemma3::read),
    ("gemma3", gemma3::read_text_part),
    ("granite", granite::read),
];

/// The same in words.
const SUPPORTED: &str =
    "qwen2, qwen3, qwen3_moe, llama, mistral, gemma3_text, gemma3 (its text part), granite";

/// The description of a model; one of an unknown family is refused.
pub(crate) fn read(fields: &Fields) -> Result<ModelConfig> {
    let family = fields.word("model_type").unwrap_or_default();
    let known = FAMILIES.iter().find(|(name, _)| *name == family);
    let Some((_, read)) = known else {
        return Err(fields.unsupported(format!("model_type `{family}`"), SUPPORTED));
    };
    // Python that comes with the checkpoint in the place of a family.
    if fields.get("model_file").is_some() {
        return Err(fields.unsupported("model code of its own (model_file)", SUPPORTED));
    }
    read(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_name_every_family() {
        for (family, _) in FAMILIES {
            assert!(SUPPORTED.split([',', ' ']).any(|word| word == *family), "{family}");
        }
    }
}
