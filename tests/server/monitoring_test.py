"""Every series that docs/monitoring/ names is one that the server exports, with the labels that are used; the alert
rules and /metrics are clean by Prometheus' own linter, where promtool is installed (Debian package prometheus); and
every series that docs/api.md lists is there.
Usage: monitoring_test.py --sluice PROGRAM"""

import argparse
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
MONITORING = ROOT / "docs" / "monitoring"
NAME = re.compile(r"\bsluice_[a-z0-9_]+")
SELECTOR = re.compile(r"\b(sluice_[a-z0-9_]+)\{([^}]*)\}")
GROUPED = re.compile(r"by \(([a-z_, ]+)\) \([^()]*\(?(sluice_[a-z0-9_]+)")


def metrics_of(program, directory, more=()):
    """GET /metrics of a server on 2 x 2 ranks that has answered a completion, refused one, and lost a client."""
    log = (pathlib.Path(directory) / "server.log").open("w+")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
    command = [program, "serve", str(pathlib.Path(directory) / "model"), "--port", "0", "--pp-size", "2", "--tp", "2",
               "--attn-cp-size", "2", "--served-model-name", "tiny", "--collect-tokens-histogram", *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment) as server:
        try:
            found = re.search(r"http://([\d.]+):(\d+)", server.stdout.readline())
            assert found, pathlib.Path(log.name).read_text()

            def ask(method, path, body=None):
                connection = http.client.HTTPConnection(found[1], int(found[2]), timeout=60)
                connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                text = answer.read().decode()
                connection.close()
                return answer.status, text

            body = {"model": "tiny", "prompt": [20] * 200, "max_tokens": 4, "ignore_eos": True}
            assert ask("POST", "/v1/completions", body)[0] == 200
            assert ask("POST", "/v1/completions", {"model": "other", "prompt": "a"})[0] == 404
            status, text = ask("GET", "/metrics")
            assert status == 200, text
        finally:
            server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=30) == 0, pathlib.Path(log.name).read_text()
    log.close()
    return text


def exported(text):
    """The labels of every series by its name, histograms under all of their names."""
    series = {}
    for line in text.splitlines():
        found = re.match(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{(.*)\} ", line)
        if found:
            series.setdefault(found[1], set()).update(re.findall(r'([a-z_]+)="', found[2]))
    return series


def check_expression(where, expression, series):
    for name in NAME.findall(expression):
        assert name in series, f"{where} asks for {name}, which the server does not export"
    for name, labels in SELECTOR.findall(expression):
        for label in re.findall(r"([a-z_]+)(?:=|!)", labels):
            assert label in series[name], f"{where} selects {name} by {label}, which it does not have"
    for labels, name in GROUPED.findall(expression):
        for label in labels.replace(" ", "").split(","):
            assert label in series[name], f"{where} groups {name} by {label}, which it does not have"


def check_dashboard(series):
    dashboard = json.loads((MONITORING / "grafana.json").read_text())
    targets = [(panel["title"], target) for panel in dashboard["panels"] for target in panel["targets"]]
    for title, target in targets:
        check_expression(f"the panel {title!r}", target["expr"], series)
        for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
            assert any(label in series[name] for name in NAME.findall(target["expr"])), (title, label)
    for variable in dashboard["templating"]["list"]:
        check_expression("a variable of the dashboard", variable["query"], series)
    return len(targets)


def check_alerts(series):
    text = (MONITORING / "alerts.yml").read_text()
    expressions = re.findall(r"^ +expr: (.+)$", text, re.MULTILINE)
    assert len(expressions) == text.count("- alert: ") > 0
    for expression in expressions:
        check_expression(f"the alert {expression!r}", expression, series)
    return len(expressions)


def check_documentation(series):
    page = (ROOT / "docs" / "api.md").read_text()
    section = page[page.index("## Metrics"):page.index("## Fields of both")]
    listed = {name for line in section.splitlines() if line.startswith("| `sluice_") for name in NAME.findall(line.split(" | ")[0])}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in series if name.startswith("sluice_")}
    assert listed == families, f"only in docs/api.md: {listed - families}; not there: {families - listed}"
    return len(listed)


def lint(what, arguments, text=None):
    if shutil.which("promtool") is None:
        print(f"left out promtool {' '.join(arguments[:2])}: promtool is not installed (Debian package prometheus)")
        return
    run = subprocess.run(["promtool", *arguments], input=text, capture_output=True, text=True, check=False)
    assert run.returncode == 0 and "error" not in run.stderr, f"{what}: {run.stdout}{run.stderr}"
    print(f"ok promtool: {what}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True)
    program = parser.parse_args().sluice
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run([program, "checkpoint", "make", f"{directory}/model", "--preset", "tiny"], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        text = metrics_of(program, directory)
    series = exported(text)
    assert not [name for name in series if ":" in name], series
    panels, alerts, documented = check_dashboard(series), check_alerts(series), check_documentation(series)
    print(f"ok {panels} expressions of the dashboard, {alerts} alerts, {documented} series documented")
    lint("/metrics", ["check", "metrics"], text)
    lint("docs/monitoring/alerts.yml", ["check", "rules", str(MONITORING / "alerts.yml")])


if __name__ == "__main__":
    main()
