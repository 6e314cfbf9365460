"""One random checkpoint through sluice and through installed peers on the same cores: first whether they say the
same, then prefill and decode in alternating runs, as ratios with their spread. docs/benchmarking.md has the command.
Standard library only; a peer's own interpreter may need more (gguf_export.py: numpy)."""

import argparse
import contextlib
import http.client
import json
import os
import pathlib
import random
import re
import resource
import signal
import statistics
import subprocess
import sys
import time

from peer import STEP_ROWS, peak_bytes

HERE = pathlib.Path(__file__).resolve().parent
# 4 layers, hidden 512, 8 heads, 64 index heads, index_topk 256, 16 experts of which 4; no YaRN, which the export
# does not have, and one expert group, so that every peer routes alike.
SHAPE = ["num_hidden_layers=4", "first_k_dense_replace=1", "num_attention_heads=8", "index_n_heads=64", "n_group=1",
         "topk_group=1", "rope_scaling=null"]
AGREEMENT_LENGTHS = (128, 1024)  # all keys selected; index_topk of them
AGREEMENT_TOP = 8
AGREEMENT = 0.02  # largest difference of a log-probability of the likeliest tokens
START_LIMIT = 120.0


class Gone(Exception):
    """A peer that ended or was never there; the text says why."""


class Process:
    """A peer of peer.py in a process of its own."""

    def __init__(self, name, command, cores, memory):
        self.name = name

        def settle():
            os.sched_setaffinity(0, cores)
            resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))

        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                      text=True, preexec_fn=settle)
        self.read()

    def read(self):
        line = self.child.stdout.readline()
        if line:
            return json.loads(line)
        said = self.child.stderr.read().strip().splitlines()
        code = self.child.wait()
        raise Gone(f"ended with {code}" + (f": {said[-1][:120]}" if said else ""))

    def ask(self, tokens, new, top=0):
        try:
            self.child.stdin.write(json.dumps({"tokens": tokens, "new": new, "top": top}) + "\n")
            self.child.stdin.flush()
        except BrokenPipeError:
            pass
        return self.read()

    def end(self):
        self.child.kill()
        self.child.wait()


class Sluice:
    """`sluice serve` with one rank, asked over HTTP as a user would."""
    name = "sluice"

    def __init__(self, program, checkpoint, cores, context, log):
        self.log = log.open("w")
        self.child = subprocess.Popen(
            [program, "serve", checkpoint, "--port", "0", "--context-length", str(context), "--max-total-tokens",
             str(context + 64), "--chunked-prefill-size", str(STEP_ROWS)], stdout=subprocess.PIPE, stderr=self.log, text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cores))
        begin = time.monotonic()
        for line in self.child.stdout:
            found = re.search(r"at http://([^:]+):(\d+)", line)
            if found:
                self.place = found[1], int(found[2])
                return
            if time.monotonic() - begin > START_LIMIT:
                break
        raise Gone(f"did not start; see {log}")

    def ask(self, tokens, new, top=0):
        body = {"input_ids": tokens, "stream": True, "return_logprob": top > 0, "top_logprobs_num": top,
                "sampling_params": {"max_new_tokens": new, "temperature": 0, "ignore_eos": True}}
        connection = http.client.HTTPConnection(*self.place)
        begin = time.perf_counter()
        connection.request("POST", "/generate", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise Gone(f"answered {answer.status}: {answer.read(200).decode()}")
        first = last = 0.0
        event = {}
        for line in answer:
            if line.startswith(b"data: {"):
                last = time.perf_counter()
                first = first or last
                event = json.loads(line[6:])
        connection.close()
        info = event["meta_info"]
        if info["cached_tokens"] != 0 or info["completion_tokens"] != new:
            raise Gone(f"computed something else: {info}")
        likeliest = [[id, value] for value, id, _ in info["output_top_logprobs"][0]] if top else []
        return {"first": first - begin, "rest": last - first, "top": likeliest, "peak": peak_bytes(self.child.pid)}

    def end(self):
        self.child.send_signal(signal.SIGTERM)
        self.child.wait()


def prompt(seed, length, words):
    numbers = random.Random(seed)
    return [numbers.randrange(words) for _ in range(length)]


def likeliest_tokens(peer, words):
    """{length: {id: log-probability}} of the likeliest tokens after prompts that every peer gets, likeliest first."""
    return {length: dict(map(tuple, peer.ask(prompt(f"agree {length}", length, words), 1, AGREEMENT_TOP)["top"]))
            for length in AGREEMENT_LENGTHS}


def agree(name, expected, got):
    """Prints how far a peer's likeliest tokens are from sluice's, and whether that is near enough."""
    near = True
    for length in AGREEMENT_LENGTHS:
        ours, theirs = expected[length], got[length]
        far = max((abs(ours[token] - theirs[token]) for token in ours.keys() & theirs.keys()), default=float("inf"))
        common = len(ours.keys() & theirs.keys())
        same = next(iter(ours)) == next(iter(theirs))
        print(f"{name} after {length} tokens: {'the same' if same else 'another'} next token, {common} of the "
              f"{AGREEMENT_TOP} likeliest in common, log-probabilities off by {far:.4f} at most", flush=True)
        near = near and same and common >= AGREEMENT_TOP - 1 and far <= AGREEMENT
    return near


def spread(values, form="{:.1f}"):
    return "{} ({} - {})".format(*(form.format(of(values)) for of in (statistics.median, min, max)))


def measure(peers, length, new, runs, words):
    """[run][peer name] -> answer; every run asks all peers the same, and the first one asked changes."""
    results = []
    for run in range(runs):
        tokens = prompt(f"{length} {run}", length, words)
        order = peers[run % len(peers):] + peers[:run % len(peers)]
        answers = {}
        for peer in order:
            try:
                answers[peer.name] = peer.ask(tokens, new)
            except Gone as error:
                print(f"{peer.name} at {length} tokens: not measured ({error})")
                peers.remove(peer)
        results.append(answers)
    return results


def show(what, results, rate):
    """One line: each peer's rates, and sluice's over them, run by run."""
    ours = [rate(answers["sluice"]) for answers in results]
    cells = [f"{what}: sluice {spread(ours)}"]
    for name in results[0]:
        theirs = [rate(answers[name]) for answers in results if name in answers]
        if name == "sluice" or len(theirs) < len(ours):
            continue
        ratios = [a / b for a, b in zip(ours, theirs)]
        cells.append(f"{name} {spread(theirs)}, ratio {spread(ratios, '{:.2f}')}")
    print("; ".join(cells), flush=True)


def compare(peers, lengths, depths, words, flags):
    print(f"{flags.threads} threads, {flags.runs} alternating runs: tokens/s as median (least - most)", flush=True)
    for length in lengths:
        new = 1 + (flags.decode_tokens if length in depths else 0)
        results = measure(peers, length, new, flags.runs, words)
        if flags.output:
            with flags.output.open("a") as file:
                for run, answers in enumerate(results):
                    file.write(json.dumps({"length": length, "new": new, "run": run, "answers": answers}) + "\n")
        show(f"prefill {length}", results, lambda answer: length / answer["first"])
        if new > 1:
            show(f"decode at {length}", results, lambda answer: (new - 1) / answer["rest"])
        print(f"peak MiB {length}: " + "; ".join(f"{name} {answer['peak'] / 2**20:.0f}"
                                                 for name, answer in results[-1].items()), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sluice", required=True, help="the program")
    parser.add_argument("--work", required=True, type=pathlib.Path, help="folder for the checkpoint in both formats")
    parser.add_argument("--llama", help="the library of a llama.cpp package that exports its C interface")
    parser.add_argument("--llama-flash", choices=["auto", "off", "on"], default="auto", help="its flash attention")
    parser.add_argument("--transformers", action="store_true", help="also Transformers, of --python")
    parser.add_argument("--python", default=sys.executable, help="interpreter with numpy (and torch, transformers)")
    parser.add_argument("--threads", type=int, default=2, help="of everyone; as many cores are used")
    parser.add_argument("--lengths", default="1024,2048,4096,8192,16384")
    parser.add_argument("--depths", default="2048,8192,16384", help="of these lengths, those where decode is measured")
    parser.add_argument("--decode-tokens", type=int, default=32)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--output", type=pathlib.Path, help="every answer, as lines of JSON")
    flags = parser.parse_args()
    lengths = sorted(int(length) for length in flags.lengths.split(","))
    depths = {int(depth) for depth in flags.depths.split(",") if depth}
    context = max(lengths + list(AGREEMENT_LENGTHS)) + flags.decode_tokens + 64
    cores = sorted(os.sched_getaffinity(0))[:flags.threads]
    if len(cores) < flags.threads:
        raise SystemExit(f"--threads {flags.threads}, but {len(cores)} cores may be used here.")

    flags.work.mkdir(parents=True, exist_ok=True)
    checkpoint, gguf = flags.work / "checkpoint", flags.work / "checkpoint.gguf"
    if not (checkpoint / "config.json").exists():
        overrides = [word for text in SHAPE for word in ("--config-override", text)]
        subprocess.run([flags.sluice, "checkpoint", "make", str(checkpoint), "--preset", "small", "--dtype", "f32",
                        *overrides], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    words = json.loads((checkpoint / "config.json").read_text())["vocab_size"]
    with open("/proc/meminfo") as file:
        memory = int(re.search(r"MemAvailable:\s+(\d+)", file.read())[1]) * 1024 * 7 // 10

    def llama():
        if not gguf.exists():
            subprocess.run([flags.python, str(HERE / "gguf_export.py"), str(checkpoint), str(gguf)], check=True)
        return Process("llama.cpp", [flags.python, str(HERE / "llama_cpp_peer.py"), flags.llama, str(gguf),
                                     str(flags.threads), str(context), flags.llama_flash], cores, memory)

    def transformers():
        return Process("Transformers", [flags.python, str(HERE / "transformers_peer.py"), str(checkpoint),
                                        str(flags.threads)], cores, memory)

    with contextlib.ExitStack() as running:
        sluice = Sluice(flags.sluice, str(checkpoint), cores, context, flags.work / "sluice.log")
        running.callback(sluice.end)
        expected = likeliest_tokens(sluice, words)
        peers = [sluice]
        for name, make, wanted, flag in (("llama.cpp", llama, flags.llama, "--llama"),
                                         ("Transformers", transformers, flags.transformers, "--transformers")):
            try:
                if not wanted:
                    raise Gone(f"no {flag}")
                peer = make()
                running.callback(peer.end)
                if not agree(name, expected, likeliest_tokens(peer, words)):
                    raise Gone("it says something else, so its speed means nothing")
                peers.append(peer)
            except (Gone, OSError, subprocess.CalledProcessError) as error:
                print(f"{name}: not measured ({error})", flush=True)
        compare(peers, lengths, depths, words, flags)

if __name__ == "__main__":
    main()
