"""`sluice eval` run to its end, and data for it; for the tests beside this file."""

import csv
import json
import random
import subprocess


def evaluate(program, *words, cwd, code=0):
    finished = subprocess.run([program, "eval", *map(str, words)], capture_output=True, text=True, timeout=300, cwd=cwd)
    assert finished.returncode == code, (finished.returncode, finished.stdout[-2000:], finished.stderr[-2000:])
    return finished


def lines_of(finished):
    return finished.stdout.splitlines()


def random_items(count, seed):
    chance = random.Random(seed)
    items = []
    for i in range(count):
        number = chance.choice([chance.randrange(10), chance.randrange(1000), chance.randrange(10**6)])
        items.append({"question": f"No. {i}: café \"quoted\" \\ tab\t and \u4f60 make {chance.randrange(99)}?",
                      "answer": f"Steps <<1+1=2>>2, then more.\n#### {number:,}"})
    return items


def write_items(path, items):
    path.mkdir(exist_ok=True)
    (path / "test.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))


def write_csv(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)
