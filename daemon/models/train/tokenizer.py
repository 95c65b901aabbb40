"""Trains the byte-level tokenizer of the pair and writes `tokenizer.json` and `tokenizer_config.json`.

The pre-tokenizer is Qwen2's regular expression. The merges come in two steps: first inside runs of letters, digits and signs,
never across the space before a word; then, last of all, the space joined to the most frequent whole words. So a rare
name falls into the same pieces wherever it stands (` Name`, `"Name`, `_name`), which is what makes copying it easy.
"""

import json
from collections import Counter
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import dialogues

HERE = Path(__file__).resolve().parent
VOCABULARY = 1024
SPACED = 200
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
PLAIN = ["<tool_call>", "</tool_call>"]
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
APART = r"[\p{L}]+|\p{N}|[^\s\p{L}\p{N}]+|\s+"


def _pre_tokenizer(pattern: str, behavior: str = "isolated"):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), behavior, invert=False), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _sample(count: int):
    for one in dialogues.corpus(7, count):
        text = "".join(t for t, _ in dialogues.segments(one))
        for token in SPECIAL + PLAIN:
            text = text.replace(token, "\n")
        yield text


def train() -> Tokenizer:
    """The tokenizer, reproducible: its sample of the corpus has a seed of its own."""
    texts = list(_sample(12000))
    first = Tokenizer(models.BPE())
    first.pre_tokenizer = _pre_tokenizer(APART)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    room = VOCABULARY - SPACED - len(SPECIAL) - len(PLAIN)
    first.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=room, initial_alphabet=alphabet, show_progress=False))
    model = json.loads(first.to_str())["model"]
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in model["merges"]]
    vocabulary = dict(model["vocab"])
    second = pre_tokenizers.Split(Regex(QWEN2), "isolated", invert=False)
    words = Counter(piece for text in texts for piece, _ in second.pre_tokenize_str(text))
    spaced = [w for w, _ in words.most_common(6000) if w[0] == " " and len(w) > 1 and w[1:] in vocabulary]
    for word in spaced:
        if len(vocabulary) >= VOCABULARY - len(SPECIAL) - len(PLAIN):
            break
        vocabulary["\u0120" + word[1:]] = len(vocabulary)
        merges.append(("\u0120", word[1:]))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, byte_fallback=False))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = _pre_tokenizer(QWEN2)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in PLAIN])
    return tokenizer


def load(folder: Path) -> Tokenizer:
    """The tokenizer as written by `save`."""
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Writes the two tokenizer files, the chat template inside the second."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    added = {str(tokenizer.token_to_id(t)): {"content": t, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": t in SPECIAL} for t in SPECIAL + PLAIN}
    config = {
        "add_bos_token": False, "add_prefix_space": False, "added_tokens_decoder": added, "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "bos_token": None, "chat_template": (HERE / "chat_template.jinja").read_text("utf-8").rstrip("\n"), "clean_up_tokenization_spaces": False, "eos_token": "<|im_end|>",
        "errors": "replace", "model_max_length": 2048, "pad_token": "<|endoftext|>", "split_special_tokens": False, "tokenizer_class": "Qwen2Tokenizer",
        # What mlx_lm.server reads tool calls with; it knows only other templates by their text.
        "tool_parser_type": "json_tools", "unk_token": None,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    made = train()
    for name in ("target", "draft"):
        save(made, HERE.parent / name)
    print("vocabulary", made.get_vocab_size())
