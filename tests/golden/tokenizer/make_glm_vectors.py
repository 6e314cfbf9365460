#!/usr/bin/env python3
"""Writes the vectors of a tokenizer like GLM-5's that src/text/golden_test.cc reads:

    glm_fixture.json    a tokenizer of 1,000 merges trained here, with GLM's pre-tokenizer, ignore_merges and the
                        marks of its chats, of which only those up to <|observation|> are special
    glm_vectors.json    what it makes of strings.jsonl, as make_vectors.py has it, and under `marks` of 400 texts that
                        are full of the marks

The vectors come from the Hugging Face tokenizers library, in the version that compare_live.py names.
"""

import base64
import json
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from compare_live import GLM_PATTERN
from strings import TEXTS
from vector_files import HERE, vectors, write_vectors

SEED = 5
MARKS = 400
SPECIAL = ["<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"]
PLAIN = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"]


def make_fixture(path):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(GLM_PATTERN), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=256 + 1000, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    r = random.Random(SEED)
    tokenizer.train_from_iterator([r.choice(TEXTS)(r) for _ in range(6000)], trainer)
    data = json.loads(tokenizer.to_str())
    data["model"]["ignore_merges"] = True
    # Tokens that no merges lead to, which only ignore_merges finds.
    vocabulary = data["model"]["vocab"]
    for word in ["Ġpipeline", "Ġlatency", "Ġthroughput", "Ġcheckpoint", "Ġ123", "counterrevolutionary"]:
        vocabulary.setdefault(word, len(vocabulary))
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in PLAIN])
    path.write_text(json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, indent=1) + "\n", encoding="utf-8", newline="\n")


def strings():
    out = []
    for line in (HERE / "strings.jsonl").read_text(encoding="utf-8").split("\n")[:-1]:
        value = json.loads(line)
        out.append(base64.b64decode(value["base64"]) if isinstance(value, dict) else value.encode())
    return out


def marks_text(r):
    out = []
    for _ in range(r.randint(1, 8)):
        mark = r.choice(SPECIAL + PLAIN)
        roll = r.random()
        if roll < 0.1:
            mark = mark[:r.randrange(1, len(mark))]
        elif roll < 0.2:
            mark = mark[r.randrange(len(mark)):]
        out.append(mark + r.choice(["", "", " ", "\n", "<", "get_weather", "中文", "'ll", " 1234"]))
    return "".join(out)


def main():
    make_fixture(HERE / "glm_fixture.json")
    data = vectors(HERE / "glm_fixture.json", strings(), "glm_fixture.json", SEED)
    tokenizer = Tokenizer.from_file(str(HERE / "glm_fixture.json"))
    r = random.Random(SEED + 1)
    texts = ["[gMASK]<sop><|user|>Hello<|assistant|><think></think>"] + [marks_text(r) for _ in range(MARKS - 1)]
    data["marks"] = [{"text": t, "ids": tokenizer.encode(t, add_special_tokens=False).ids,
                      "shown": tokenizer.decode(tokenizer.encode(t, add_special_tokens=False).ids, skip_special_tokens=True)} for t in texts]
    write_vectors("glm_vectors.json", data)


if __name__ == "__main__":
    main()
