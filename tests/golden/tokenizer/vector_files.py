"""The form of the vectors that make_vectors.py and make_glm_vectors.py write."""

import hashlib
import json
import random
from pathlib import Path

from tokenizers import Tokenizer

from compare_live import frame_of

HERE = Path(__file__).parent
SAMPLES = 500


def vectors(path, strings, source, seed):
    tokenizer = Tokenizer.from_file(str(path))
    encodings = tokenizer.encode_batch([s.decode(errors="replace") for s in strings], add_special_tokens=False)
    frames = [frame_of(e.ids) for e in encodings]
    chosen = sorted(random.Random(seed + 2).sample(range(len(strings)), SAMPLES))
    return {
        "tokenizer": source,
        "tokenizer_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "strings": len(strings),
        "sha256": hashlib.sha256(b"".join((len(f) // 4).to_bytes(4, "little") + f for f in frames)).hexdigest(),
        "digests": "".join(hashlib.sha256(f).hexdigest()[:8] for f in frames),
        "samples": [{"index": i, "text": strings[i].decode(errors="replace"), "ids": encodings[i].ids} for i in chosen],
    }


def write_vectors(name, data):
    lists = ""
    for key in [k for k in ("samples", "marks") if k in data]:
        lines = ",\n  ".join(json.dumps(s, ensure_ascii=False) for s in data.pop(key))
        lists += f',\n "{key}": [\n  {lines}\n ]'
    head = json.dumps(data, indent=1, ensure_ascii=False)[:-2]
    (HERE / name).write_text(f"{head}{lists}\n}}\n", encoding="utf-8", newline="\n")
