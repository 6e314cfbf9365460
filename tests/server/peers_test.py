"""bench/peers/: compare.py measures nobody who says something else or is not there, and says so; the GGUF export has
every weight of the checkpoint, read back here by another reader (left out without numpy). No peer is needed.
Usage: peers_test.py --sluice PROGRAM"""

import argparse
import json
import pathlib
import struct
import subprocess
import sys
import tempfile

PEERS = pathlib.Path(__file__).resolve().parent.parent.parent / "bench" / "peers"
# In place of --python: "exports" an empty file; as a peer it ends at once, or gives every token the same likelihood.
FAKE = """#!{python}
import json, sys
if sys.argv[1].endswith("gguf_export.py"):
    open(sys.argv[3], "w").close()
elif "transformers" in sys.argv[1]:
    sys.exit("no such package")
else:
    print("{{}}", flush=True)
    for line in sys.stdin:
        top = [[token, -7.6] for token in range(json.loads(line)["top"])]
        print(json.dumps({{"first": 1.0, "rest": 1.0, "top": top, "peak": 1}}), flush=True)
"""


def compared(program, work, *flags):
    run = subprocess.run([sys.executable, str(PEERS / "compare.py"), "--sluice", program, "--work", str(work),
                          "--threads", "1", "--lengths", "96", "--depths", "96", "--decode-tokens", "3", "--runs", "2",
                          "--output", str(work / "answers.jsonl"), *flags], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return run.stdout


def read_gguf(path):
    """{name: (extents fastest first, bytes)} and {key: value} of a file without arrays of arrays."""
    data = path.read_bytes()
    at = 0

    def take(form):
        nonlocal at
        values = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize("<" + form)
        return values[0] if len(values) == 1 else values

    def string():
        nonlocal at
        size = take("Q")
        at += size
        return data[at - size:at].decode()

    def value(kind):
        if kind == 9:
            of, count = take("IQ")
            return [value(of) for _ in range(count)]
        return string() if kind == 8 else take({4: "I", 5: "i", 6: "f", 7: "?"}[kind])

    assert data[:4] == b"GGUF"
    at = 4
    version, tensors, keys = take("IQQ")
    assert version == 3
    pairs = {}
    for _ in range(keys):
        key = string()
        pairs[key] = value(take("I"))
    infos = []
    for _ in range(tensors):
        name = string()
        rank = take("I")
        extents = [take("Q") for _ in range(rank)]
        kind, offset = take("IQ")
        assert kind == 0 and offset % pairs["general.alignment"] == 0
        infos.append((name, extents, offset))
    start = (at + 31) // 32 * 32
    found = {}
    for name, extents, offset in infos:
        size = 4
        for extent in extents:
            size *= extent
        found[name] = (extents, data[start + offset:start + offset + size])
    return found, pairs


def check_export(checkpoint, path):
    subprocess.run([sys.executable, str(PEERS / "gguf_export.py"), str(checkpoint), str(path)], check=True)
    tensors, keys = read_gguf(path)
    with next(checkpoint.glob("*.safetensors")).open("rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        start = file.tell()

        def stored(name):
            begin, end = header[name]["data_offsets"]
            file.seek(start + begin)
            return file.read(end - begin)

        assert keys["general.architecture"] == "deepseek32" and keys["deepseek32.attention.indexer.top_k"] == 256
        # Nothing is left out: as many numbers as in the checkpoint.
        assert sum(len(data) for _, data in tensors.values()) == sum(
            entry["data_offsets"][1] - entry["data_offsets"][0] for name, entry in header.items() if name[0] != "_")
        assert tensors["blk.1.ffn_gate_exps.weight"][1] == b"".join(
            stored(f"model.layers.1.mlp.experts.{expert}.gate_proj.weight") for expert in range(16))
        assert tensors["blk.2.indexer.attn_q_b.weight"] == (
            [256, 64 * 128], stored("model.layers.2.self_attn.indexer.wq_b.weight"))
        # kv_b_proj [8 heads x (128 + 128), 512]: element (row, column) of W_uk in head 3 is (column, row) of k_b.
        both = stored("model.layers.0.self_attn.kv_b_proj.weight")
        extents, keys_up = tensors["blk.0.attn_k_b.weight"]
        assert extents == [128, 512, 8]
        for row, column in ((0, 0), (5, 77), (127, 511)):
            from_ours = 4 * ((3 * 256 + row) * 512 + column)
            from_theirs = 4 * ((3 * 512 + column) * 128 + row)
            assert both[from_ours:from_ours + 4] == keys_up[from_theirs:from_theirs + 4]
        values_up = tensors["blk.0.attn_v_b.weight"][1]
        assert values_up[:4 * 512] == both[4 * 128 * 512:4 * 129 * 512]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True)
    program = parser.parse_args().sluice
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        said = compared(program, work)
        assert "llama.cpp: not measured (no --llama)" in said, said
        assert "Transformers: not measured (no --transformers)" in said, said
        for line in ("prefill 96: sluice ", "decode at 96: sluice ", "peak MiB 96: sluice "):
            assert line in said, said
        assert len((work / "answers.jsonl").read_text().splitlines()) == 2

        fake = work / "fake"
        fake.write_text(FAKE.format(python=sys.executable))
        fake.chmod(0o755)
        said = compared(program, work, "--python", str(fake), "--llama", "some.so", "--transformers")
        assert "llama.cpp: not measured (it says something else" in said, said
        assert "Transformers: not measured (ended with 1: no such package)" in said, said
        assert "ratio" not in said, said

        if subprocess.run([sys.executable, "-c", "import numpy"], capture_output=True).returncode == 0:
            check_export(work / "checkpoint", work / "read_back.gguf")
        else:
            print("no numpy: the export is left out")


if __name__ == "__main__":
    main()
