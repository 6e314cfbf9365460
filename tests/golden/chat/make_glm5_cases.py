#!/usr/bin/env python3
"""Writes glm5_cases.json: conversations, and the prompts that the official chat templates of GLM-5, 5.1 and 5.2
make of them, for src/text/chat_glm5_test.cc.

    make_glm5_cases.py FOLDER [--count N] [--seed S] [--output FILE]

FOLDER has the three templates as the checkpoints zai-org/GLM-5, GLM-5.1 and GLM-5.2 come with them, under the names
of OFFICIAL; their SHA-256 are checked. They are rendered the way Transformers does it: a sandbox of Jinja2 with
trim_blocks and lstrip_blocks, `tojson` being json.dumps. Needs the package `jinja2`.

A case has what the API knows: `tools` are OpenAI's, with the function in its envelope; a reasoning_content that is
there and empty differs from an absent one; absent options are left to the template's own defaults.
"""

import argparse
import hashlib
import json
import random
from pathlib import Path

from jinja2.sandbox import ImmutableSandboxedEnvironment

OFFICIAL = {
    "glm-5": ("5.jinja", "45a1d5635afd3d8e08a28866e72fc8395d2a7ec30989fd0bdaec6dd45a99eff0"),
    "glm-5.1": ("5.1.jinja", "03b1bbff20331e54647c68167e8ac7f0b5b7ceb40ead372f44826624a9ad79cd"),
    "glm-5.2": ("5.2.jinja", "172dc74a35e1752df75ecfb2b2cf9326d2852bb1379868ebeec9571654489679"),
}
HERE = Path(__file__).parent

TEXTS = ["a", "Hello, world!", " led and trailed \n", "", "\n\n", "中文，天气。", "naïve\u00a0", "\u3000full\u3000", "\x1cfs\x1f", "x < y && z",
         "{\"k\": 1}", "line\nline", "<|user|>", "<tool_call>f</tool_call>", "\u2028sep\u2028", "tab\t", "😀", "\\n", "\"quoted\""]
THOUGHTS = ["why", " because \n", "\nfirst\nsecond\n", "难", "a <think> b", "", " "]
IN_CONTENT = ["why</think>so", "<think>why</think>so", "<think>\nwhy\n</think>\n\nso\n", "</think>so", "a<think>b<think>c</think>d</think> e ", "x</think>"]
VALUES = ["text", " spaced ", "", "42", "true", "中\n\"q\"", 0, 42, -7, 10 ** 20, 1.5, 1e-7, 1e16, 100.0, True, False, None, [], {}, [1, "a", None],
          {"a": {"b": ["中", 1.0]}, "c": "\u00e9"}, "<b>", "</arg_value>"]
TOOLS = [
    {"type": "function", "function": {"name": "now"}},
    {"type": "function", "function": {"name": "get_weather", "description": "Weather of a place \"now\" — 天气", "parameters": {
        "type": "object", "properties": {"place": {"type": "string"}, "days": {"type": "integer", "default": 1.0}}, "required": ["place"]}}},
    {"type": "function", "function": {"name": "strict_one", "strict": True, "parameters": {"type": "object", "properties": {}}}},
    {"type": "function", "function": {"strict": False, "name": "first_strict", "description": "<&>'"}},
    {"type": "function", "function": {"name": "later", "defer_loading": True, "description": "d"}},
    {"type": "function", "function": {"name": "not_later", "defer_loading": False}},
    {"type": "function", "function": {"name": "nothing_later", "defer_loading": None, "x": [1, {"y": 1e3}]}},
    {"type": "function", "function": {"name": "text_later", "defer_loading": "false"}},
]


def assistant(r):
    message = {"role": "assistant", "content": r.choice(IN_CONTENT) if r.random() < 0.25 else r.choice(TEXTS)}
    if r.random() < 0.5:
        message["reasoning_content"] = r.choice(THOUGHTS)
    calls = r.choice([0, 0, 0, 1, 1, 2, 3])
    if calls:
        message["tool_calls"] = [{"name": r.choice(["now", "get_weather", "f-1"]),
                                  "arguments": {key: r.choice(VALUES) for key in r.sample(["place", "days", "o", "键", "a b"], r.randint(0, 4))}}
                                 for _ in range(calls)]
    return message


def conversation(r):
    messages = [{"role": "system", "content": r.choice(TEXTS)} for _ in range(r.choice([0, 0, 1, 1, 2]))]
    for _ in range(r.randint(1, 3)):
        if r.random() < 0.9:
            messages.append({"role": "user", "content": r.choice(TEXTS)})
        for _ in range(r.choice([0, 1, 1, 2])):
            messages.append(assistant(r))
            for _ in messages[-1].get("tool_calls", []):
                messages.append({"role": "tool", "content": r.choice(TEXTS)})
        if r.random() < 0.1:
            messages.append({"role": "system", "content": r.choice(TEXTS)})
    return messages


def for_template(messages):
    out = []
    for message in messages:
        message = dict(message)
        if "tool_calls" in message:
            message["tool_calls"] = [{"type": "function", "id": f"call_{i}", "function": call} for i, call in enumerate(message["tool_calls"])]
        out.append(message)
    return out


def case(r, style, template):
    messages = conversation(r)
    tools = r.sample(TOOLS, r.randint(1, 4)) if r.random() < 0.5 else []
    options = {"add_generation_prompt": r.random() < 0.8}
    if r.random() < 0.5:
        options["enable_thinking"] = r.random() < 0.5
    if r.random() < 0.4:
        options["clear_thinking"] = r.random() < 0.3
    if r.random() < 0.3:
        options["reasoning_effort"] = r.choice(["high", "max"])
    prompt = template.render(messages=for_template(messages), tools=tools or None, **options)
    # Calls go as the API has them: arguments are a JSON text.
    for message in messages:
        for call in message.get("tool_calls", []):
            call["arguments"] = json.dumps(call["arguments"], ensure_ascii=False)
    return {"style": style, "tools": [json.dumps(t["function"], ensure_ascii=False) for t in tools], "messages": messages, "options": options, "prompt": prompt}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--count", type=int, default=100, help="cases of each version")
    arguments.add_argument("--seed", type=int, default=52)
    arguments.add_argument("--output", type=Path, default=HERE / "glm5_cases.json")
    options = arguments.parse_args()
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value, ensure_ascii=True: json.dumps(value, ensure_ascii=ensure_ascii)
    r = random.Random(options.seed)
    cases = []
    for style, (name, sha256) in OFFICIAL.items():
        text = (options.folder / name).read_bytes()
        assert hashlib.sha256(text).hexdigest() == sha256, f"{options.folder / name} is not {style}'s template"
        template = environment.from_string(text.decode())
        cases += [case(r, style, template) for _ in range(options.count)]
    lines = ",\n ".join(json.dumps(c, ensure_ascii=False) for c in cases)
    # Some texts hold U+2028 and the like: the file is read whole.
    options.output.write_text(f"[\n {lines}\n]\n", encoding="utf-8", newline="\n")
    print(f"{options.output}: {len(cases)} cases")


if __name__ == "__main__":
    main()
