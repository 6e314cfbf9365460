"""`sluice eval mmlu` against a scripted OpenAI server: the reference's prompts byte for byte, its scores and its output lines.
Usage: eval_mmlu_test.py --sluice PROGRAM"""

import argparse
import base64
import collections
import importlib.util
import json
import pathlib
import random
import re
import tempfile

import reference_evals
import scripted_openai
from eval_runs import evaluate, lines_of, write_csv


def row_of(chance, subject, i):
    words = [chance.choice(["alpha, beta", 'so "called"', "two\nlines", "plain", "it's \u00e9", " spaces "]) + f" {subject} {i} {c}"
             for c in "ABCD"]
    return [f"Which of {subject}, no. {i}?" + chance.choice(["", "\n(a) x, (b) y", ' "q"']), *words, chance.choice("ABCD")]


def subjects(program, scratch):
    """57 generated subjects of known counts, with every answer's form that the scorer knows."""
    chance = random.Random(2)
    data = scratch / "mmlu"
    prompts, answer_of, expected = [], {}, []
    for s in range(57):
        subject = f"subject_{s:02}_of_many" if s else "abstract_algebra"
        dev = [row_of(chance, subject, -1 - i) for i in range(6)]
        test = [row_of(chance, subject, i) for i in range(3 + s % 7)]
        if s == 5:
            dev[2][0] = "long " * 400 + dev[2][0]  # 2000 bytes and more: an example that does not fit
        write_csv(data / "dev" / f"{subject}_dev.csv", dev)
        write_csv(data / "test" / f"{subject}_test.csv", test)
        own = reference_evals.mmlu_prompts(subject, dev, test, 5, len if s == 5 else lambda text: 0)
        assert own[0].count("\nAnswer: ") == (2 if s == 5 else 5)
        right = chance.randrange(len(test) + 1)
        for i, (prompt, row) in enumerate(zip(own, test)):
            other = "BCDA"["ABCD".index(row[-1])]
            answer_of[prompt] = chance.choice([" {}", "{}", "\n\u00a0{}", "{}.", " {} because"]).format(
                row[-1] if i < right else other) if i < right or chance.random() < 0.8 else chance.choice(["", "  ", "\u3000"])
        prompts += own
        expected.append((subject, len(test), right))
    expected.sort()
    with scripted_openai.serving(lambda body: answer_of[body["prompt"]], tokenize=lambda text: list(range(len(text)))) as server:
        finished = evaluate(program, "mmlu", "--data", data, "--url", server.url + "/v1", "--output", "m", cwd=scratch)
    lines = lines_of(finished)
    assert lines[:57] == [f"subject: {subject}, #q:{count}, acc: {right / count:.3f}" for subject, count, right in expected], lines
    questions, hits = sum(count for _, count, _ in expected), sum(right for _, _, right in expected)
    assert re.fullmatch(r"Total latency: \d+\.\d{3}", lines[57]), lines[57]
    assert lines[58] == f"Average accuracy: {hits / questions:.3f}", lines[58]
    assert collections.Counter(server.prompts()) == collections.Counter(prompts), "a prompt is not the reference's"
    assert all(body["max_tokens"] == 1 and "stop" not in body for body in server.bodies)
    assert json.loads((scratch / "m.json").read_text())["right"] == hits
    written = json.loads((scratch / "result.jsonl").read_text().splitlines()[-1])
    assert written["task"] == "mmlu" and written["num_requests"] == questions and written["other"]["nsub"] == 60, written


def scorer(program, scratch):
    chance = random.Random(3)
    answers = ["", " ", "A", " A", "a", "\tB", "\u2003C", "\x1fD", "\u200bA", "\u00a0", "(A)", "-A", "\u0410", "\u00c4A", "A\u0301", "AB", "1", ",A", ".5"]
    while len(answers) < 200:
        answers.append("".join(chance.choice(["A", "B", "C", "D", " ", "\n", "\u3000", "\x85", "x", ".", "-", "\u4f60"])
                               for _ in range(chance.randrange(5))))
    data = scratch / "crafted_mmlu"
    write_csv(data / "dev" / "one_dev.csv", [["q", "w", "x", "y", "z", "A"]])
    write_csv(data / "test" / "one_test.csv", [[f"q{i}", "w", "x", "y", "z", "A"] for i in range(200)])
    prompts = reference_evals.mmlu_prompts("one", [], reference_evals.read_csv(data / "test" / "one_test.csv"), 0)
    answer_of = dict(zip(prompts, answers))
    with scripted_openai.serving(lambda body: answer_of[body["prompt"]]) as server:
        evaluate(program, "mmlu", "--data", data, "--url", server.url, "--num-shots", 0, "--output", "m", cwd=scratch)
    for answer, entry in zip(answers, json.loads((scratch / "m.json").read_text())["answers"]):
        prediction = reference_evals.mmlu_prediction(answer)
        assert (entry["prediction"] or "") == prediction and entry["right"] == (prediction == "A"), (answer, entry)


def prompts_of(program, scratch, name, dev, test, *flags):
    """What is sent for one subject, in the order of the questions."""
    data = scratch / name
    write_csv(data / "dev" / "one_dev.csv", dev)
    write_csv(data / "test" / "one_test.csv", test)
    with scripted_openai.serving(lambda _: "A") as server:
        evaluate(program, "mmlu", "--data", data, "--url", server.url, "--output", "m", "--parallel", 1, *flags, cwd=scratch)
    return server.prompts()


def cells(program, scratch):
    """The reference reads its files with pandas, which takes columns for numbers: two columns of each kind at a time."""
    columns = list(reference_evals.CELLS)
    if importlib.util.find_spec("pandas"):
        import pandas  # pylint: disable=import-outside-toplevel
        chance = random.Random(8)
        words = [cell for column, _ in columns for cell in column]
        for _ in range(60):
            column = [chance.choice(words[:-9]) for _ in range(chance.randrange(1, 4))]
            columns.append((column, reference_evals.pandas_shows(pandas, column)))
        for column, shown in reference_evals.CELLS:
            assert reference_evals.pandas_shows(pandas, column) == shown, column
    else:
        print("left out: random columns against pandas, which is not installed")
    for k, (column, shown) in enumerate(columns):
        def rows(cells):
            return [[f"q{i}", "w", cell, "y", "A"] for i, cell in enumerate(cells)]
        sent = prompts_of(program, scratch, f"cells{k}", rows(column), rows(column), "--num-shots", len(column))
        assert sent == reference_evals.mmlu_prompts("one", rows(shown), rows(shown), len(column)), (column, shown, sent[0])


def shots_by_tiktoken(program, scratch):
    """Examples are left out by the count of a table of the form of cl100k_base.tiktoken, made here from English."""
    chance = random.Random(9)
    words = "the of and court state river income voters in'll they've It's 1967 12345 :) -- \t x  y \n\n".split(" ") + ["\n", "  "]
    ranks = {bytes([byte]): byte for byte in range(256)}
    for word in words + [" " + word for word in words]:
        for end in range(2, len(word) + 1):
            ranks.setdefault(word[:end].encode(), len(ranks))
    table = scratch / "cl100k_base.tiktoken"
    table.write_text("".join(f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items()))
    kept = set()
    for size in (100, 150, 190, 230, 300, 450, 1600):
        dev = [[" ".join(chance.choice(words) for _ in range(size)), "w", "x", "y", "z", "B"] for _ in range(5)]
        test = [["q", "w", "x", "y", "z", "A"]]
        expected = reference_evals.mmlu_prompts("one", dev, test, 5, lambda text: reference_evals.token_count(ranks, text))
        if importlib.util.find_spec("tiktoken"):
            import tiktoken  # pylint: disable=import-outside-toplevel
            pieces = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
                      r"|\s*[\r\n]+|\s+(?!\S)|\s+")
            theirs = tiktoken.Encoding("test", pat_str=pieces, mergeable_ranks=ranks, special_tokens={})
            assert expected == reference_evals.mmlu_prompts("one", dev, test, 5, lambda text: len(theirs.encode(text)))
        kept.add(expected[0].count("Answer: "))
        sent = prompts_of(program, scratch, f"shots{size}", dev, test, "--tiktoken", table)
        assert sent == expected, (size, sent[0].count("Answer: "), expected[0].count("Answer: "))
    assert len(kept) >= 4, kept
    table.write_text("QUJD x\n")
    refused = evaluate(program, "mmlu", "--data", scratch / "shots100", "--url", "http://127.0.0.1:9", "--model", "m",
                       "--tiktoken", table, cwd=scratch, code=2).stderr
    assert "cl100k_base.tiktoken:1" in refused, refused


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True)
    program = str(pathlib.Path(parser.parse_args().sluice).resolve())
    with tempfile.TemporaryDirectory() as directory:
        for check in (subjects, scorer, cells, shots_by_tiktoken):
            check(program, pathlib.Path(directory))
            print("ok", check.__name__)


if __name__ == "__main__":
    main()
