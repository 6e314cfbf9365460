"""`sluice eval` against a scripted OpenAI server: gsm8k with the reference's prompts byte for byte, its scores, its output
lines; needle and log-probabilities; what becomes of bad data and of servers that stop. Usage:
eval_test.py --sluice PROGRAM [--gsm8k DIRECTORY]"""

import argparse
import collections
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import tempfile
import threading

import reference_evals
import scripted_openai
from eval_runs import evaluate, lines_of, random_items, write_csv, write_items


def gsm8k_known_share(program, scratch, items, right, expected, backend="openai"):
    """The first `right` questions get their label, the others one more than it or a number that begins with it."""
    data = scratch / f"gsm8k{len(items)}"
    write_items(data, items)
    prompts = reference_evals.gsm8k_prompts(items, 5, len(items))
    labels = [reference_evals.gsm8k_value(item["answer"]) for item in items]
    said = [label if i < right else label + 1 if i % 2 else 10 * label + 7 for i, label in enumerate(labels)]
    answer_of = {prompt: f" So it is {number}." for prompt, number in zip(prompts, said)}
    with scripted_openai.serving(lambda body: answer_of[body.get("prompt", body.get("text"))]) as server:
        finished = evaluate(program, "gsm8k", "--data", data, "--url", server.url, "--num-questions", len(items),
                            "--parallel", 16, "--output", "g", "--raw-result-file", "raw.jsonl", "--backend", backend,
                            cwd=scratch)
    lines = lines_of(finished)
    assert lines[0] == f"Accuracy: {expected}" and lines[1] == "Invalid: 0.000", lines
    assert re.fullmatch(r"Latency: \d+\.\d{3} s", lines[2]), lines
    assert re.fullmatch(r"Output throughput: \d+\.\d{3} token/s", lines[3]), lines
    assert collections.Counter(server.prompts()) == collections.Counter(prompts), "a prompt is not the reference's"
    if backend == "openai":
        assert all(body == {"model": "scripted", "prompt": body["prompt"], "max_tokens": 512, "temperature": 0,
                            "top_p": 1, "stop": reference_evals.STOPS} for body in server.bodies)
    else:
        assert all(body["sampling_params"] == {"max_new_tokens": 512, "temperature": 0, "top_p": 1,
                                               "stop": reference_evals.STOPS} for body in server.bodies)
    result = json.loads((scratch / "g.json").read_text())
    assert (result["right"], result["answered"], result["partial"]) == (right, len(items), False)
    assert [int(entry["prediction"]) for entry in result["answers"]] == said
    assert abs(float(lines[3].split()[2]) - result["output_tokens"] / result["latency_seconds"]) < 0.01
    assert result["output_tokens"] == 7 * len(items)
    assert (scratch / "g.txt").read_text() == finished.stdout
    written = json.loads((scratch / "result.jsonl").read_text().splitlines()[-1])
    assert written["accuracy"] == float(expected) and written["task"] == "gsm8k", written
    assert written["other"] == {"num_questions": len(items), "parallel": 16}, written
    raw = [json.loads(line) for line in (scratch / "raw.jsonl").read_text().splitlines()]
    assert [row["prompt_id"] for row in raw] == list(range(len(items)))
    assert sum(row["correct"] for row in raw) == right and raw[3]["prompt"] == prompts[3]
    # Wilson's interval, from its quadratic: the shares p with |right/n - p| = z sqrt(p (1 - p) / n).
    for edge in ("low", "high"):
        p, n = result["interval"][edge], len(items)
        assert abs(abs(right / n - p) - 1.959963984540054 * (p * (1 - p) / n) ** 0.5) < 1e-9, result["interval"]


def gsm8k_reference_share(program, scratch, directory):
    items = [json.loads(line) for line in (directory / "test.jsonl").read_text().splitlines()]
    assert len(items) == 1319
    gsm8k_known_share(program, scratch, items, 1250, "0.948")


def crafted_numbers(seed):
    chance = random.Random(seed)
    answers = ["", " ", "none", "-5", "+5", "3.75", "$1,234.50", "1,000,000", "1, 2", ",", ",,7,,", "007", "0", "000", "0.0",
               "12 eggs. 13", "1e5", "5%", "#### 42", "42 ####", "\u0663\u0664", "4\u0665", "\u0665 then 9", "9 then \u0966",
               "x" * 50 + "3", "1" * 4300, "1" * 4301, "1\n2\n", "\u00b2", "3\u00b2", "\u2460 5 \u2461", "\uff11\uff12", "10,", "-,-9", "1_000"]
    while len(answers) < 200:
        parts = [chance.choice(["", "-", "$", "=", " is ", ",", ".", "\n", "0", "\u0661", "e"]) + str(chance.randrange(10**chance.randrange(1, 9)))
                 for _ in range(chance.randrange(4))]
        answers.append("".join(parts) + chance.choice(["", ".", ".00", ",", " apples", "\u00a0"]))
    return answers


def gsm8k_scorer(program, scratch):
    """200 crafted answers; the label of each is what the reference makes of it, where it makes anything."""
    answers = crafted_numbers(1)
    values = [reference_evals.gsm8k_value(answer) for answer in answers]
    items = [{"question": f"Q{i}", "answer": f"#### {value if value != reference_evals.INVALID else 1}"}
             for i, value in enumerate(values)]
    data = scratch / "crafted"
    write_items(data, items)
    answer_of = {f"Question: Q{i}\nAnswer:": answer for i, answer in enumerate(answers)}
    with scripted_openai.serving(lambda body: answer_of[body["prompt"]]) as server:
        finished = evaluate(program, "gsm8k", "--data", data, "--url", server.url, "--num-questions", 200, "--num-shots", 0,
                            "--output", "g", cwd=scratch)
    result = json.loads((scratch / "g.json").read_text())
    assert len(result["answers"]) == 200
    for answer, value, entry in zip(answers, values, result["answers"]):
        predicted = reference_evals.INVALID if entry["prediction"] is None else entry["prediction"]
        assert str(predicted) == (str(value) if value < 10**4000 else answer), (answer, value, entry)
        assert entry["right"] == (value != reference_evals.INVALID), (answer, entry)
    invalid = sum(value == reference_evals.INVALID for value in values) / 200
    assert 0.05 < invalid < 0.5
    assert lines_of(finished)[:2] == [f"Accuracy: {1 - invalid:.3f}", f"Invalid: {invalid:.3f}"], finished.stdout


def bad_data(program, scratch):
    items = random_items(20, 4)
    data = scratch / "bad"
    write_items(data, items)
    lines = (data / "test.jsonl").read_text().splitlines()
    lines[2] = lines[2][:-1]
    lines[7] = json.dumps({"question": "q"})
    lines[11] = json.dumps({"question": "q", "answer": "no number"})
    lines[12] = json.dumps({"question": 5, "answer": "6"})
    (data / "test.jsonl").write_text("# a comment\n" + "\n".join(lines) + "\n")
    nowhere = "http://127.0.0.1:9"
    refused = evaluate(program, "gsm8k", "--data", data, "--url", nowhere, cwd=scratch, code=2).stderr
    for line, what in ((4, "not JSON"), (9, 'no text "answer"'), (13, "the answer has no number"), (14, 'no text "question"')):
        assert f"{data}/test.jsonl:{line}: {what}" in refused, refused
    assert "4 malformed lines" in refused and "--allow-malformed" in refused, refused
    good = [item for i, item in enumerate(items) if i not in (2, 7, 11, 12)]
    with scripted_openai.serving(lambda _: "1") as server:
        finished = evaluate(program, "gsm8k", "--data", data, "--url", server.url, "--allow-malformed", "--output", "g",
                            cwd=scratch)
    assert "Malformed data lines left out: 4" in finished.stdout, finished.stdout
    assert json.loads((scratch / "g.json").read_text())["malformed"] == 4
    assert collections.Counter(server.prompts()) == collections.Counter(reference_evals.gsm8k_prompts(good, 5, 16))

    csvs = scratch / "bad_mmlu"
    write_csv(csvs / "dev" / "one_dev.csv", [["q", "w", "x", "y", "z", "A"]] * 5)
    (csvs / "test").mkdir()
    (csvs / "test" / "one_test.csv").write_text('q,w,x,y,z,A\n"two\nlines",w,x,y,z,B\nq,w,x,y,A\nq,w,x,y,z,E\n"q,w,x,y,z,A\n')
    refused = evaluate(program, "mmlu", "--data", csvs, "--url", nowhere, cwd=scratch, code=2).stderr
    for line, what in ((4, "5 cells"), (5, 'the answer is "E"'), (6, "a quote without its end")):
        assert f"{csvs}/test/one_test.csv:{line}: {what}" in refused, refused
    for words, sentence in ((("gsm8k", "--data", scratch / "none"), "test.jsonl"),
                            (("mmlu", "--data", scratch / "none"), "dev/SUBJECT_dev.csv")):
        refused = evaluate(program, *words, "--url", nowhere, cwd=scratch, code=2).stderr
        assert sentence in refused and len(refused.splitlines()) == 1, refused
    refused = evaluate(program, "gsm8k", "--data", data, "--allow-malformed", "--url", nowhere, cwd=scratch, code=6).stderr
    assert nowhere in refused and "refused" in refused, refused


def stopping_server(program, scratch):
    """The server falls silent, breaks, or the user has enough: what was answered is saved and marked."""
    items = random_items(60, 5)
    data = scratch / "stop"
    write_items(data, items)
    for name, last, code in (("silent", None, 6), ("broken", 500, 6), ("refusing", 400, 2)):
        counter = iter(range(1000))
        with scripted_openai.serving(lambda _: "5" if next(counter) < 20 else last) as server:
            finished = evaluate(program, "gsm8k", "--data", data, "--url", server.url, "--num-questions", 60, "--parallel", 4,
                                "--timeout", 1, "--output", name, "--result-file", f"{name}.jsonl", cwd=scratch, code=code)
        result = json.loads((scratch / f"{name}.json").read_text())
        assert result["partial"] and result["reason"] and 16 <= result["answered"] <= 20, result
        assert sum(entry["answered"] for entry in result["answers"]) == result["answered"]
        assert f"PARTIAL: {result['answered']} of 60" in finished.stdout, finished.stdout
        assert f"{name}.json, marked as partial" in finished.stderr, finished.stderr
        assert not (scratch / f"{name}.jsonl").exists(), "a partial run stands among the reference's results"

    enough = threading.Event()
    counter = iter(range(1000))

    def answer(_):
        if next(counter) < 10:
            return "5"
        enough.set()
        return None

    with scripted_openai.serving(answer) as server:
        process = subprocess.Popen([program, "eval", "gsm8k", "--data", str(data), "--url", server.url, "--output", "user"],
                                   cwd=scratch, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert enough.wait(30)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    assert process.returncode == 1 and "interrupted" in errors and "interrupted by a signal" in output, (output, errors)
    answered = json.loads((scratch / "user.json").read_text())["answered"]
    assert answered <= 10 and f"PARTIAL: {answered} of 60" in output, (answered, output)

    busy = iter(range(1000))
    with scripted_openai.serving(lambda _: 503 if next(busy) == 3 else "5") as server:
        evaluate(program, "gsm8k", "--data", data, "--url", server.url, "--output", "busy", cwd=scratch)
    assert json.loads((scratch / "busy.json").read_text())["answered"] == 60 and len(server.bodies) == 61


def needle(program, scratch):
    """A server that finds what is hidden but in the middle; tokens are characters."""
    seen = collections.defaultdict(list)

    def answer(body):
        text = "".join(map(chr, body["prompt"]))
        place = re.search(r"secret number of (\w+)\? Answer", text)[1]
        seen[len(text)].append(text)
        hidden = re.search(rf"The secret number of {place} is (\d+)\.", text)
        if hidden is None:
            return " 11111."
        depth = hidden.start() / len(text)
        return f" {int(hidden[1]):,}." if not 0.4 < depth < 0.6 else f" 9{hidden[1]}"

    with scripted_openai.serving(answer, tokenize=lambda text: [ord(c) for c in text]) as server:
        finished = evaluate(program, "needle", "--url", server.url, "--lengths", "2000,6000", "--depths", 5, "--output", "n",
                            "--leave-out", 3, cwd=scratch)
        assert set(seen) <= set(range(1900, 2001)) | set(range(5900, 6001)) and len(server.bodies) == 10, list(seen)
        evaluate(program, "needle", "--url", server.url, "--depths", 5, "--require", 0.9, cwd=scratch, code=1)
    table = [line.split() for line in lines_of(finished)]
    assert table[0] == ["depth", "2000", "6000", "tokens"], table
    assert table[1:6] == [["0", "%", "1/1", "1/1"], ["25", "%", "1/1", "1/1"], ["50", "%", "0/1", "0/1"],
                          ["75", "%", "0/1", "0/1", "left", "out"], ["100", "%", "1/1", "1/1"]], table
    assert "Found: 0.600 (6 of 10)" in finished.stdout
    assert json.loads((scratch / "n.json").read_text())["found"] == 6


def logprobs(program, scratch):
    """Two servers whose numbers differ in the last bit of one token's fp32."""
    text = scratch / "text.txt"
    text.write_text("one two three four")
    values = [None, -1.25, -0.10000000149011612, -3.0517578125e-05]

    def answering(numbers):
        return lambda body: {"system_fingerprint": "f", "usage": {"prompt_tokens": 4, "completion_tokens": 1}, "choices": [
            {"text": body["prompt"] + "!", "logprobs": {"tokens": ["one", " two", " three", " four", "!"],
                                                        "token_logprobs": [*numbers, -9.0]}}]}

    other = [*values[:2], -0.10000000894069672, values[3]]  # the next fp32 number
    with scripted_openai.serving(answering(values)) as one, scripted_openai.serving(answering(other)) as two:
        evaluate(program, "logprobs", "--url", one.url, "--text-file", text, "--output", "one", cwd=scratch)
        assert one.bodies[0]["echo"] is True and one.bodies[0]["logprobs"] == 1 and one.bodies[0]["prompt"] == text.read_text()
        finished = evaluate(program, "logprobs", "--compare", "one.json", one.url, "--text-file", text, cwd=scratch)
        assert "All log-probabilities are equal, bit for bit." in finished.stdout, finished.stdout
        finished = evaluate(program, "logprobs", "--url", one.url, "--compare", two.url, "one.json", "--text-file", text,
                            "--output", "both", cwd=scratch, code=1)
    assert 'token 2 " three": -0.1 (bdcccccd) against -0.10000001 (bdccccce)' in finished.stdout, finished.stdout
    differences = json.loads((scratch / "both.json").read_text())["differences"]
    assert differences[0]["equal"] == 3 and differences[0]["first"] == 2 and differences[0]["same_tokens"], differences
    assert abs(differences[0]["largest"] - 7.450580596923828e-09) < 1e-15 and differences[1]["first"] is None
    assert json.loads((scratch / "one.json").read_text())["runs"][0]["token_logprobs"] == values
    refused = evaluate(program, "logprobs", "--compare", "one.json", cwd=scratch, code=2).stderr
    assert "nothing to compare with" in refused
    refused = evaluate(program, "logprobs", "--compare", "one.json", "http://127.0.0.1:9", "--text-file", text, "--output", "p",
                       cwd=scratch, code=6).stderr
    assert "refused" in refused and json.loads((scratch / "p.json").read_text())["partial"], refused


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True)
    parser.add_argument("--gsm8k", default=os.environ.get("SLUICE_GSM8K"), help="the directory of test.jsonl")
    options = parser.parse_args()
    program = str(pathlib.Path(options.sluice).resolve())
    with tempfile.TemporaryDirectory() as directory:
        scratch = pathlib.Path(directory)
        gsm8k_known_share(program, scratch, random_items(200, 6), 151, "0.755")
        gsm8k_known_share(program, scratch, random_items(40, 7), 39, "0.975", "sglang")
        print("ok gsm8k")
        if options.gsm8k and pathlib.Path(options.gsm8k, "test.jsonl").exists():
            gsm8k_reference_share(program, scratch, pathlib.Path(options.gsm8k))
            print("ok gsm8k, all 1,319 questions")
        else:
            print("left out: gsm8k's own 1,319 questions (--gsm8k or SLUICE_GSM8K is their directory)")
        for check in (gsm8k_scorer, bad_data, stopping_server, needle, logprobs):
            check(program, scratch)
            print("ok", check.__name__)


if __name__ == "__main__":
    main()
