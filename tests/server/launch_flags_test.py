"""Holds docs/launch-flags.md to the program: every flag of `sluice serve` has a row, and what a row says a user sees is
seen with the flag and not without it. The page itself says how its last column is read. Standard library only.
Usage: launch_flags_test.py --sluice PROGRAM"""

import argparse
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
COLUMNS = ["flag", "values", "default", "meaning here", "effect", "how you see it"]
EFFECTS = {"works", "always so", "accepted, no effect"}
WITHOUT_EFFECT = {"--trust-remote-code", "--num-reserved-decode-tokens", "--cuda-graph-bs", "--disable-cuda-graph",
                  "--attention-backend"}
CHECKED_BY = re.compile(r"checked by `(?P<path>[^`]+)`")
LEFT_OUT = re.compile(r"left out: refused with `(?P<refusal>[^`]+)`")
REFUSED = re.compile(r"`(?P<words>[^`]+)`: refused with `(?P<refusal>[^`]+)`")
SEEN = re.compile(r"(?P<alone>alone, )?`(?P<words>[^`]+)`: (?P<place>log|start line|answer|chat|`/[^`]*`) has "
                  r"(?:(?P<count>\d+) x |(?P<no>no ))?`(?P<text>[^`]+)`")
START_LIMIT = 60.0


def rows_of(page):
    """The rows of the six-column tables of the section about `serve`, as lists of cells; the example is left out."""
    section = page[page.index("\n## sluice serve"):page.index("\n## sluice demo")]
    rows, inside = [], False
    for line in section[section.index("\n### Model and server"):].splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if cells == COLUMNS:
            inside = True
        elif not line.startswith("|"):
            inside = False
        elif inside and not line.startswith("| ---"):
            assert len(cells) == len(COLUMNS), f"this row has {len(cells)} cells: {line}"
            rows.append(dict(zip(COLUMNS, cells)))
    return rows


def claims_of(cell):
    """What a cell says, as matches of the four forms; refuses a cell with anything else in it."""
    claims, at = [], 0
    while at < len(cell):
        match = next(filter(None, (form.match(cell, at) for form in (CHECKED_BY, LEFT_OUT, REFUSED, SEEN))), None)
        assert match, f"this is none of the forms the page describes: {cell[at:]!r}"
        claims.append(match)
        at = match.end()
        assert at == len(cell) or cell.startswith("; ", at), f"a '; ' is missing before {cell[at:]!r}"
        at += 2
    return claims


def check_rows(rows, flags):
    """Every row has an effect and a stated difference, and rows and flags are the same."""
    named = {name for row in rows for name in re.findall(r"`(--[^`]+)`", row["flag"])}
    assert flags - named == set(), f"flags of the program without a row: {flags - named}"
    assert named - flags == set(), f"rows of flags that the program does not have: {named - flags}"
    without = {re.findall(r"`(--[^`]+)`", row["flag"])[0] for row in rows if row["effect"] == "accepted, no effect"}
    assert without <= WITHOUT_EFFECT, f"these may not say 'accepted, no effect': {without - WITHOUT_EFFECT}"
    for row in rows:
        assert row["effect"] in EFFECTS, row
        assert claims_of(row["how you see it"]), f"nothing is said of how {row['flag']} is seen"


def check_that_bad_rows_are_red(rows, flags):
    """A page is refused when a row says nothing that can be looked for, has another effect, or is one too many or few."""
    good = rows[0]
    bad = [rows[1:], [*rows, {**good, "flag": "`--no-such-flag`"}]]
    bad += [[{**good, "how you see it": cell}, *rows[1:]] for cell in ("", "-", "in the log", "`--tp 2`: log has", "checked by hand")]
    bad += [[{**good, "effect": effect}, *rows[1:]] for effect in ("", "none", "accepted, no effect")]
    for page in bad:
        try:
            check_rows(page, flags)
        except AssertionError:
            continue
        raise AssertionError(f"this was taken: {page[0]}")


def check_other_test(row, path):
    """The test is there, is in CTest and names the flag."""
    text = (ROOT / path).read_text()
    lists = (ROOT / path).parent / "CMakeLists.txt"
    assert pathlib.Path(path).name in lists.read_text(), f"{path} is not in {lists}"
    names = re.findall(r"`(--[^`]+)`", row["flag"])
    assert any(name in text for name in names), f"{path} does not name {names}"


def searched(log):
    """The log with the messages of its JSON lines as they were before they were quoted, at the end of their lines."""
    lines = []
    for line in log.splitlines():
        if line.startswith("{"):
            entry = json.loads(line)
            message = entry.pop("message").replace("\n", " ")
            line = json.dumps(entry, separators=(",", ":")) + " " + message
        lines.append(line)
    return "\n".join(lines)


class Serving:
    """What a server with these words shows, in every place that a row can name."""

    def __init__(self, test, words, paths):
        self.words = words
        command = [test.program, "serve", *words]
        if not any(word in ("--model-path", "--model") for word in words):
            command += ["--model-path", test.model]
        if "--port" not in words:
            command += ["--port", "0"]
        log_path = test.directory / "server.log"
        with log_path.open("w") as log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True,
                                                         env=test.environment) as server:
            try:
                self.places = {"start line": server.stdout.readline()}
                found = re.search(r"http://(?P<host>[\d.]+):(?P<port>\d+)", self.places["start line"])
                assert found, f"{words}: {log_path.read_text()}"
                self.ask(found["host"], int(found["port"]), paths)
            finally:
                server.send_signal(signal.SIGTERM)
            assert server.wait(timeout=START_LIMIT) == 0, f"{words}: {log_path.read_text()}"
        self.places["log"] = searched(log_path.read_text())

    def ask(self, host, port, paths):
        models = json.loads(self.request(host, port, "GET", "/v1/models"))
        model = models["data"][0]["id"]
        prompt = [20 + i % 200 for i in range(300)]
        completion = {"model": model, "prompt": prompt, "max_tokens": 6, "temperature": 0, "ignore_eos": True}
        self.request(host, port, "POST", "/v1/completions", completion)
        self.places["answer"] = self.request(host, port, "POST", "/v1/completions", completion)
        chat = {"model": model, "messages": [{"role": "user", "content": "seen words"}], "max_tokens": 4,
                "temperature": 0, "ignore_eos": True}
        self.places["chat"] = self.request(host, port, "POST", "/v1/chat/completions", chat)
        for path in paths:
            self.places[f"`{path}`"] = self.request(host, port, "GET", path)

    @staticmethod
    def request(host, port, method, path, body=None):
        connection = http.client.HTTPConnection(host, port, timeout=START_LIMIT)
        headers = {"Content-Type": "application/json", "x-request-id": "seen-id"}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse().read().decode()
        connection.close()
        return answer

    def count(self, claim, text):
        pattern = re.escape(text).replace(re.escape("..."), r"[^\n]*")
        return len(re.findall(pattern, self.places[claim["place"]]))


class Test:
    def __init__(self, program, directory):
        self.program = program
        self.directory = pathlib.Path(directory)
        self.model = str(self.directory / "model")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = str(free.getsockname()[1])
        (self.directory / "empty").mkdir()
        subprocess.run([program, "checkpoint", "make", self.model, "--preset", "tiny"], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def filled(self, text):
        return text.replace("MODEL", self.model).replace("PORT", self.port).replace("DIR", str(self.directory / "empty"))

    def flags(self):
        page = subprocess.run([self.program, "serve", "--help", "all"], check=True, capture_output=True, text=True,
                              env=self.environment).stdout
        return {name for line in page.splitlines() if line.startswith("  --")
                for name in re.findall(r"(?:^|, )(--[a-z0-9-]+)", re.split(r" [A-Z]", line.strip())[0])}

    def check_refused(self, words, text):
        command = [self.program, "serve", *words] if words else [self.program, "serve"]
        if words and not any(word in ("--model-path", "--model") for word in words):
            command += ["--model-path", self.model]
        run = subprocess.run(command, capture_output=True, text=True, timeout=START_LIMIT, env=self.environment)
        said = run.stdout + run.stderr
        assert run.returncode == 2, f"{words}: {run.returncode}: {said}"
        assert text in said and said.count("sluice: ") == 1, f"{words}: {said} does not say {text}"


def groups_of(claims):
    """(words, claims) of as few starts as there can be: claims share one unless they give a flag two values."""
    groups = []
    for claim in claims:
        given = {}
        for word in claim["words"].split():
            if word.startswith("--"):
                last = given.setdefault(word, [])
            else:
                last.append(word)
        free = [] if claim["alone"] else [g for g in groups if not g["alone"] and all(g["given"].get(f, v) == v for f, v in given.items())]
        if free:
            free[0]["given"].update(given)
            free[0]["claims"].append(claim)
        elif claim["alone"] and (same := [g for g in groups if g["alone"] and g["given"] == given]):
            same[0]["claims"].append(claim)
        else:
            groups.append({"alone": bool(claim["alone"]), "given": given, "claims": [claim]})
    return [([w for f, v in g["given"].items() for w in (f, *v)], g["claims"]) for g in groups]


def check_seen(test, claims):
    paths = {claim["place"].strip("`") for claim in claims if claim["place"].startswith("`")}
    without = Serving(test, [], paths)
    groups = groups_of(claims)
    wrong = []
    for words, of_group in groups:
        shown = Serving(test, [test.filled(word) for word in words], paths)
        for claim in of_group:
            text = test.filled(claim["text"])
            wanted = int(claim["count"]) if claim["count"] else 0 if claim["no"] else None
            with_flag, before = shown.count(claim, text), without.count(claim, text)
            right = with_flag == wanted and before != wanted if wanted is not None else with_flag > 0 and before == 0
            if not right:
                wrong.append(f"{claim[0]} is not so: {with_flag} times with {' '.join(words)}, {before} times without:\n"
                             f"{shown.places[claim['place']]}")
    assert not wrong, "\n\n".join(wrong)
    return 1 + len(groups)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True)
    parser.add_argument("--page", default=str(ROOT / "docs" / "launch-flags.md"))
    options = parser.parse_args()
    rows = rows_of(pathlib.Path(options.page).read_text())
    with tempfile.TemporaryDirectory() as directory:
        test = Test(options.sluice, directory)
        check_rows(rows, test.flags())
        check_that_bad_rows_are_red(rows, test.flags())
        seen, refused = [], 0
        for row in rows:
            for claim in claims_of(row["how you see it"]):
                if claim.re is CHECKED_BY:
                    check_other_test(row, claim["path"])
                elif claim.re is SEEN:
                    seen.append(claim)
                else:
                    words = claim["words"].split() if claim.re is REFUSED else []
                    test.check_refused([test.filled(word) for word in words], claim["refusal"])
                    refused += 1
        starts = check_seen(test, seen)
    print(f"ok {len(rows)} rows: {len(seen)} differences seen in {starts} starts, {refused} refusals")


if __name__ == "__main__":
    main()
