//! Vocabularies in the manner of SentencePiece, as Gemma, Llama 2 and Mistral have them: `▁` stands for a space, and `<0xE2>`
//! for a byte that is in no word.

use tokenizers::DecoderWrapper;
use tokenizers::decoders::sequence::Sequence;

/// Stands for a space.
const SPACE: char = '▁';

/// Whether the decoder of a vocabulary is of this kind.
pub(super) fn is(decoder: &DecoderWrapper) -> bool {
    let DecoderWrapper::Sequence(sequence) = decoder else { return false };
    let steps = steps(sequence);
    let unpacks = matches!(
        steps,
        [DecoderWrapper::Replace(_), DecoderWrapper::ByteFallback(_), DecoderWrapper::Fuse(_), ..]
    );
    // How `tokenizer.json` writes both steps is the only way to see what they do.
    let written = |step: &DecoderWrapper| serde_json::to_value(step).unwrap_or_default();
    unpacks
        && written(&steps[0])["pattern"]["String"] == SPACE.to_string()
        && written(&steps[0])["content"] == " "
        && steps[3..].iter().all(|step| {
            let step = written(step);
            step["type"] == "Strip"
                && step["content"] == " "
                && (&step["start"], &step["stop"]) == (&1.into(), &0.into())
        })
        && steps.len() <= 4
}

/// Whether an answer's first space is left out.
pub(super) fn drops_first_space(decoder: &DecoderWrapper) -> bool {
    match decoder {
        DecoderWrapper::Sequence(sequence) => {
            matches!(steps(sequence), [.., DecoderWrapper::Strip(_)])
        }
        _ => false,
    }
}

/// The bytes that a word of the vocabulary stands for.
pub(super) fn bytes(word: &str) -> Box<[u8]> {
    let hex = word.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    match hex.filter(|hex| hex.len() == 2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
        Some(byte) => Box::new([byte]),
        None => word.replace(SPACE, " ").into_bytes().into(),
    }
}

fn steps(sequence: &Sequence) -> &[DecoderWrapper] {
    sequence.get_decoders()
}

#[cfg(test)]
mod tests;
