"""What compare.py and its peers say to each other: a peer is a process that reads a line of JSON, does it, and
answers with a line of JSON. {"tokens": [...], "new": n, "top": k} is a prompt of which nothing is known yet, after
which n tokens are made greedily. The answer:
  first     seconds to the first new token
  rest      seconds from there to the last one (0 with n = 1)
  top       with k > 0: the k likeliest first tokens as [id, log-probability], likeliest first
  peak      bytes of memory the process had resident at most until now
Standard library only."""

import json
import math
import re
import sys

# Prompt rows that everyone computes at a time, llama.cpp's own default of n_ubatch: what a step needs beside weights and
# cache grows with it, so that peaks of memory compare only at one size.
STEP_ROWS = 512


def peak_bytes(pid="self"):
    with open(f"/proc/{pid}/status") as file:
        return int(re.search(r"VmHWM:\s+(\d+) kB", file.read()).group(1)) * 1024


def likeliest(logits, count):
    """The ids with the largest logits and their log-probabilities; `logits` is a sequence of floats."""
    largest = max(logits)
    total = largest + math.log(math.fsum(math.exp(x - largest) for x in logits))
    ids = sorted(range(len(logits)), key=lambda i: (-logits[i], i))[:count]
    return [[i, logits[i] - total] for i in ids]


def answer_requests(run):
    """run(tokens, new) -> (first, rest, logits of the first new token as floats), until the input ends."""
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        first, rest, logits = run(request["tokens"], request["new"])
        top = likeliest(logits, request["top"]) if request["top"] else []
        print(json.dumps({"first": first, "rest": rest, "top": top, "peak": peak_bytes()}), flush=True)
