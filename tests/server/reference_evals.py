"""What the reference's gsm8k and mmlu tools send and how they score, written down once more from their description,
in Python and apart from the program: the tests hold `sluice eval` to it."""

import ast
import csv
import io
import re

INVALID = -9999999
STOPS = ["Question", "Assistant:", "<|separator|>"]


def gsm8k_prompts(items, shots, count):
    def example(item, with_answer):
        return f"Question: {item['question']}\nAnswer:" + (" " + item["answer"] if with_answer else "")

    few_shot = "".join(example(item, True) + "\n\n" for item in items[:shots])
    return [few_shot + example(item, False) for item in items[:count]]


def gsm8k_value(answer):
    numbers = re.findall(r"\d+", answer.replace(",", ""))
    if not numbers:
        return INVALID
    try:
        return ast.literal_eval(numbers[-1])
    except SyntaxError:
        return INVALID


def read_csv(path):
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))


def mmlu_prompts(subject, dev, test, shots, tokens=lambda text: 0):
    def example(row, with_answer):
        text = row[0] + "".join(f"\n{'ABCDEFGH'[i]}. {choice}" for i, choice in enumerate(row[1:-1])) + "\nAnswer:"
        return text + (f" {row[-1]}\n\n" if with_answer else "")

    def examples(count):
        subject_words = " ".join(subject.split("_"))
        return (f"The following are multiple choice questions (with answers) about {subject_words}.\n\n"
                + "".join(example(row, True) for row in dev[:count]))

    while tokens(examples(shots)) > 1536:
        shots -= 1
    return [examples(shots) + example(row, False) for row in test]


def mmlu_prediction(answer):
    return answer.strip()[0] if answer.strip() else ""


# Columns of choices and how "{}".format shows them after pandas.read_csv(header=None) (pandas 3.1.1): whole columns
# become integers, floats or booleans, and what pandas takes for missing becomes nan.
CELLS = [
    (['1', '2', ' 3'],
     ['1', '2', '3']),
    (['1', '2.50', '3'],
     ['1.0', '2.5', '3.0']),
    (['007', '8'],
     ['7', '8']),
    (['1', 'NA', '3'],
     ['1.0', 'nan', '3.0']),
    (['NA', 'x', 'None'],
     ['nan', 'x', 'nan']),
    (['True', 'FALSE', 'true'],
     ['True', 'False', 'True']),
    (['True', '', 'x'],
     ['True', 'nan', 'x']),
    (['True', ''],
     ['True', 'nan']),
    (['True', 'NA', 'False'],
     ['True', 'nan', 'False']),
    (['1e5', '2'],
     ['100000.0', '2.0']),
    (['1e-05', '0.1'],
     ['1e-05', '0.1']),
    (['1e16', '1'],
     ['1e+16', '1.0']),
    (['+5', '-3'],
     ['5', '-3']),
    (['1,000', '2'],
     ['1,000', '2']),
    (['$1', '2'],
     ['$1', '2']),
    (['inf', '1'],
     ['inf', '1.0']),
    (['-Infinity', '1'],
     ['-inf', '1.0']),
    ([' 1.5 ', '2'],
     ['1.5', '2.0']),
    (['0x10', '1'],
     ['0x10', '1']),
    (['1.', '2'],
     ['1.0', '2.0']),
    (['.5', '2'],
     ['0.5', '2.0']),
    (['-0', '1'],
     ['0', '1']),
    (['-0.0', '1'],
     ['-0.0', '1.0']),
    (['12345678901234567890', '1'],
     ['12345678901234567890', '1']),
    (['99999999999999999999', '1'],
     ['99999999999999999999', '1']),
    (['0.30000000000000004', '1'],
     ['0.30000000000000004', '1.0']),
    (['3.14159265358979', '2.718281828459045'],
     ['3.14159265358979', '2.718281828459045']),
    (['nan', 'NaN'],
     ['nan', 'nan']),
    (['n/a', 'null'],
     ['nan', 'nan']),
    (['1_000', '2'],
     ['1_000', '2']),
    (['\u0661', '2'],
     ['\u0661', '2']),
    (['1/2', '2'],
     ['1/2', '2']),
    (['12 ', '13'],
     ['12', '13']),
    (['1e400', '1'],
     ['inf', '1.0']),
    (['1e-400', '1'],
     ['0.0', '1.0']),
    (['+', '1'],
     ['+', '1']),
    (['1e', '2'],
     ['1e', '2']),
    (['', '2'],
     ['nan', '2.0']),
    (['', 'x'],
     ['nan', 'x']),
    (['123456789.123456789', '1'],
     ['123456789.12345679', '1.0']),
    (['0.1', '0.2'],
     ['0.1', '0.2']),
    (['100000000000000000.5', '1'],
     ['1e+17', '1.0']),
    (['+-5', '1'],
     ['+-5', '1']),
    (['1\t', '2'],
     ['1', '2']),
    (['1d5', '2'],
     ['1d5', '2']),
    (['TRUE', 'FALSE'],
     ['True', 'False']),
    (['infinity', '+inf'],
     ['inf', 'inf']),
    (['1\n', '2'],
     ['1', '2']),
    (['5 6', '7'],
     ['5 6', '7']),
    (['--5', '1'],
     ['--5', '1']),
    (['9223372036854775807', '1'],
     ['9223372036854775807', '1']),
    (['9223372036854775808', '1'],
     ['9223372036854775808', '1']),
    (['-9223372036854775808', '1'],
     ['-9223372036854775808', '1']),
]


def pandas_shows(pandas, column):
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([["q", cell, "A"] for cell in column])
    stream.seek(0)
    frame = pandas.read_csv(stream, header=None)
    return [f"{frame.iloc[i, 1]}" for i in range(len(column))]


# OpenAI's cl100k_base cuts a text so before it joins bytes; here for texts of ASCII alone.
PIECES = re.compile(r"'(?:[sdmtSDMT]|ll|LL|ve|VE|re|RE)|[^\r\nA-Za-z0-9]?[A-Za-z]+|[0-9]{1,3}| ?[^\sA-Za-z0-9]+[\r\n]*"
                    r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def token_count(ranks, text):
    count = 0
    for piece in PIECES.findall(text):
        parts = [bytes([byte]) for byte in piece.encode()]
        while True:
            pairs = [(ranks[a + b], i) for i, (a, b) in enumerate(zip(parts, parts[1:])) if a + b in ranks]
            if not pairs:
                break
            _, i = min(pairs)
            parts[i:i + 2] = [parts[i] + parts[i + 1]]
        count += len(parts)
    return count
