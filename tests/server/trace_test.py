"""Traces of a job of 3 stages x 2 lanes: /start_profile, /stop_profile, /dump_trace, --trace-slow-request, a rank that
is stopped, one that is killed, and `sluice trace merge|table|svg` over the files. The merged file is held to the trace
event format as Perfetto's documentation has it (docs/getting-started/other-formats.md there: objects with ph, ts, pid,
tid, name, cat, args; X events nest; M names; s and f flows), and the table to a computation of its own here.

Standard library only. Usage: trace_test.py --sluice PROGRAM"""

import argparse
import collections
import gzip
import json
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import tempfile
import threading
import time

import sluice_server
from sluice_server import ask, free_port, until

STAGES, LANES = 3, 2
RANKS = STAGES * LANES
LAYOUT = ["--pp-size", str(STAGES), "--tp", str(LANES), "--enable-nsa-prefill-context-parallel", "--ranks", "processes",
          "--chunked-prefill-size", "64", "--disable-radix-cache"]
KINDS = ["pass", "op", "collective", "wait", "hop", "idle"]
RECORD = struct.Struct("<qqqqiiiHBB")
LIMIT = 60.0


def complete(port, prompt_tokens=300, max_tokens=12):
    return ask(port, "POST", "/v1/completions",
                {"model": "m", "prompt": [5 + i % 800 for i in range(prompt_tokens)], "max_tokens": max_tokens,
                 "ignore_eos": True})


def read_dump(file):
    """Header and events of a trace file, read as docs/tracing.md describes it."""
    line, records = pathlib.Path(file).read_bytes().split(b"\n", 1)
    header = json.loads(line)
    names = "begin end step amount pass_ layer peer name kind open".split()
    events = [dict(zip(names, values)) for values in RECORD.iter_unpack(records)]
    assert header["format"] == "sluice trace 1" and len(events) == header["events"], header
    return header, events


def dumps_in(directory):
    return sorted(pathlib.Path(directory).glob("*.sltrace"))


def dump_directories(parent, begins):
    return sorted(p for p in pathlib.Path(parent).iterdir() if p.name.startswith(begins))


def check_schema(document):
    """Raises unless the document is in the JSON object form of the trace event format, as far as Perfetto reads it."""
    assert isinstance(document["traceEvents"], list) and document.get("displayTimeUnit") in ("ms", "ns")
    last, open_on, flows = 0.0, collections.defaultdict(list), collections.Counter()
    for event in document["traceEvents"]:
        assert isinstance(event["name"], str) and event["ph"] in "XMsf", event
        assert type(event["pid"]) is int and type(event["tid"]) is int and event["pid"] > 0, event
        if event["ph"] == "M":
            key = "sort_index" if event["name"].endswith("sort_index") else "name"
            assert event["name"] in ("process_name", "process_sort_index", "thread_name", "thread_sort_index"), event
            assert type(event["args"][key]) is (int if key == "sort_index" else str), event
            continue
        assert isinstance(event["ts"], (int, float)) and event["ts"] >= last, ("not sorted", event)
        last = event["ts"]
        assert isinstance(event["cat"], str) and event["cat"], event
        if event["ph"] == "X":
            assert event["dur"] >= 0 and isinstance(event["args"], dict), event
            # In nanoseconds: slices of a thread nest, or follow each other.
            begin, end = round(event["ts"] * 1000), round((event["ts"] + event["dur"]) * 1000)
            nest = open_on[event["tid"]]
            while nest and nest[-1] <= begin:
                nest.pop()
            assert not nest or end <= nest[-1], ("overlaps", event)
            nest.append(end)
        else:
            assert type(event["id"]) is int, event
            assert event["ph"] == "s" or event["bp"] == "e", event
            flows[event["id"], event["ph"]] += 1
    assert all(count == 1 for count in flows.values()), "an id of a flow is used twice"
    assert all((number, "s") in flows for number, phase in flows if phase == "f"), "an arrow from nowhere"
    return flows


def parts_of(header, events):
    """Nanoseconds by (kind, name) of one rank's time: at every moment the event that began last and has not ended."""
    edges = sorted({header["begin_ns"], header["end_ns"], *(e["begin"] for e in events), *(e["end"] for e in events)})
    parts, under_way, next_event = collections.Counter(), [], 0
    for begin, end in zip(edges, edges[1:]):
        under_way = [e for e in under_way if e["end"] > begin]
        while next_event < len(events) and events[next_event]["begin"] <= begin:
            if events[next_event]["end"] > begin:
                under_way.append(events[next_event])
            next_event += 1
        if not under_way:
            parts["outside", "outside passes"] += end - begin
            continue
        # Latest begin; of those with one begin the shortest; the file has the outer first.
        inner = max(enumerate(under_way), key=lambda pair: (pair[1]["begin"], -pair[1]["end"], pair[0]))[1]
        kind = KINDS[inner["kind"]]
        name = "between ops" if kind == "pass" else header["names"][inner["name"]]
        parts["compute" if kind in ("pass", "op") else kind, name] += end - begin
    return parts


def sluice(program, *words):
    return subprocess.run([program, "trace", *map(str, words)], capture_output=True, text=True, check=True)


def check_profile(program, directory, scratch):
    """Everything about the files of a profile that lost nothing."""
    files = dumps_in(directory)
    assert len(files) == RANKS, files
    merged = scratch / "merged.json"
    said = sluice(program, "merge", directory, "-o", merged).stderr
    assert f"of {RANKS} of {RANKS} ranks" in said and "missing" not in said, said
    sluice(program, "merge", directory, "-o", scratch / "merged.json.gz")
    with gzip.open(scratch / "merged.json.gz") as packed:
        assert packed.read() == merged.read_bytes()
    document = json.loads(merged.read_text())
    flows = check_schema(document)

    # All six ranks, each with passes, ops and collectives; stages are processes.
    threads = {e["tid"]: e["args"]["name"] for e in document["traceEvents"] if e["name"] == "thread_name"}
    processes = {e["args"]["name"] for e in document["traceEvents"] if e["name"] == "process_name"}
    assert sorted(name.split("(")[1].split(",")[0] for name in threads.values()) == [f"rank {r}" for r in range(RANKS)]
    assert processes == {f"stage {s}" for s in range(STAGES)}
    slices = [e for e in document["traceEvents"] if e["ph"] == "X"]
    for tid in threads:
        assert {"pass", "op", "collective", "hop"} <= {e["cat"] for e in slices if e["tid"] == tid}, threads[tid]
    seen = collections.Counter((e["tid"], e["name"], e["ts"], e["dur"]) for e in slices if e["dur"] > 0)
    assert max(seen.values()) == 1, seen.most_common(1)
    assert all("layer" in e["args"] and e["args"]["rows"] >= 0 for e in slices if e["name"] == "SparseAttention")

    # Rows arrive after they were sent, at every boundary, within the error of the clocks.
    slack = 2 * document["otherData"]["clock_error_us"]
    ends = {(e["id"], e["ph"]): (e["ts"], e["pid"]) for e in document["traceEvents"] if e["ph"] in "sf"}
    boundaries = collections.Counter()
    for (number, phase), (ts, pid) in ends.items():
        if phase == "f":
            sent, sender = ends[number, "s"]
            assert ts + slack >= sent, (number, sent, ts)
            assert ts - sent < LIMIT * 1e6, (number, sent, ts)
            boundaries[sender, pid] += 1
    assert set(boundaries) == {(1, 2), (2, 3)}, boundaries

    # The table adds up, and is what is computed here from the files alone.
    table = json.loads(sluice(program, "table", "--json", directory).stdout)
    assert table["missing_ranks"] == [] and len(table["stages"]) == STAGES
    for stage in table["stages"]:
        assert stage["sum_ns"] == stage["total_ns"] and stage["lanes"] == LANES
        expected = collections.Counter()
        for file in files:
            header, events = read_dump(file)
            if header["stage"] == stage["stage"]:
                assert header["lost"] == 0
                expected += parts_of(header, events)
        shown = {(share, name): ns for share, parts in stage["parts_ns"].items() for name, ns in parts.items()}
        assert shown == dict(expected), stage["stage"]
        assert sum(shown.values()) == stage["total_ns"]
    text = sluice(program, "table", directory).stdout
    assert text.count("  sum ") == STAGES and text.count(" 100.00 %") == STAGES, text

    svg = scratch / "trace.svg"
    sluice(program, "svg", directory, "-o", svg)
    assert svg.read_text().startswith("<svg") and "stage 2 lane 1" in svg.read_text()
    print(f"ok {len(slices)} events and {sum(boundaries.values())} hops of {RANKS} ranks: schema, order, arrows, 100 %")

    # A rank whose file is not there is named, and nothing points to it.
    partial = scratch / "partial"
    shutil.copytree(directory, partial)
    (partial / "rank-4.sltrace").unlink()
    assert "missing: rank 4" in sluice(program, "merge", partial, "-o", merged).stderr
    check_schema(json.loads(merged.read_text()))
    assert "missing: rank 4" in sluice(program, "table", partial).stdout
    assert flows


def check_routes(program, model, scratch):
    traces = scratch / "traces"
    begin = time.monotonic()
    with sluice_server.serving(program, model, scratch / "routes.log", *LAYOUT, "--trace-dir", str(traces),
                               "--trace-slow-request", "0.000001") as server:
        port = server.port
        assert ask(port, "POST", "/stop_profile")[0] == 400
        status, begun = ask(port, "POST", "/start_profile", {"activities": ["CPU", "GPU"], "with_stack": True})
        assert status == 200 and begun["success"] and len(begun["notes"]) == 2, begun
        assert ask(port, "POST", "/start_profile")[0] == 400
        for _ in range(3):
            assert complete(port)[0] == 200
        status, stopped = ask(port, "POST", "/stop_profile")
        assert status == 200 and len(stopped["files"]) == RANKS and stopped["lost"] == 0, stopped
        check_profile(program, pathlib.Path(stopped["files"][0]).parent, scratch)

        # A profile that ends by itself, and is merged.
        asked = {"output_dir": str(scratch / "own"), "num_steps": 4, "profile_prefix": "four", "merge_profiles": True}
        assert ask(port, "POST", "/start_profile", asked)[0] == 200
        assert complete(port)[0] == 200
        merged = until(lambda: list((scratch / "own").glob("four-profile-*/trace.json.gz")), "no profile of four steps")
        until(lambda: ask(port, "POST", "/start_profile")[0] == 200, "the profile of four steps is still under way")
        with gzip.open(merged[0]) as packed:
            check_schema(json.load(packed))
        assert len(dumps_in(merged[0].parent)) == RANKS
        assert ask(port, "GET", "/stop_profile")[0] == 200

        # From a step on.
        steps = max(e["step"] for e in read_dump(dumps_in(merged[0].parent)[0])[1])
        assert ask(port, "POST", "/start_profile", {"start_step": steps + 8})[0] == 200
        assert complete(port)[0] == 200
        _, stopped = ask(port, "POST", "/stop_profile")
        for file in stopped["files"]:
            assert min(e["step"] for e in read_dump(file)[1]) >= steps + 8
        status, dumped = ask(port, "POST", "/dump_trace", {"output_dir": str(scratch / "asked")})
        assert status == 200 and len(dumped["files"]) == RANKS, dumped
        assert ask(port, "POST", "/dump_trace", {"output_dir": "/proc/none"})[0] == 400
        slow = until(lambda: dump_directories(traces, "sluice-slow"), "no dump of a slow request")
        assert len(slow) <= 1 + (time.monotonic() - begin) / 60, "one a minute"
        until(lambda: len(dumps_in(slow[0])) == RANKS, "the dump of a slow request is not whole")
    print("ok start, stop, num_steps, start_step, merge_profiles, dump, slow request")


def check_ring(program, model, scratch):
    events = 1024
    with sluice_server.serving(program, model, scratch / "ring.log", *LAYOUT, "--trace-events", str(events)) as server:
        assert ask(server.port, "POST", "/dump_trace")[0] == 400, "nowhere to write to"
        for _ in range(3):
            assert complete(server.port)[0] == 200
        _, dumped = ask(server.port, "POST", "/dump_trace", {"output_dir": str(scratch / "ring")})
        assert "overwritten" in dumped["message"], dumped
        for file in dumped["files"]:
            header, kept = read_dump(file)
            ended = [e for e in kept if not e["open"]]
            assert header["lost"] > 0 and events - 200 < len(ended) <= events, (header["lost"], len(ended))
            assert max(e["step"] for e in kept) > 20 and min(e["step"] for e in ended) > 0, "the oldest are overwritten"
        directory = pathlib.Path(dumped["files"][0]).parent
        table = json.loads(sluice(program, "table", "--json", directory).stdout)
        assert all(stage["sum_ns"] == stage["total_ns"] for stage in table["stages"])
        assert table["lost_events"] == dumped["lost"]
        assert "overwritten" in sluice(program, "merge", directory, "-o", scratch / "m.json").stderr
    print(f"ok a ring of {events} events keeps the latest and counts {dumped['lost']} lost")


def check_loss(program, model, scratch):
    """A stopped rank: a dump of the stall by the others, with what they wait for. Then it is killed: one of the end."""
    traces = scratch / "loss"
    server = sluice_server.SluiceServer(program, model, scratch / "loss.log", *LAYOUT, "--trace-dir", str(traces),
                                        "--stall-report-after", "1", "--watchdog-timeout", "60")
    try:
        assert complete(server.port)[0] == 200
        pid = server.rank_process(2)
        os.kill(pid, signal.SIGSTOP)
        threading.Thread(target=lambda: ignore(lambda: complete(server.port)), daemon=True).start()
        others = [f"rank-{rank}.sltrace" for rank in range(RANKS) if rank != 2]
        stall = until(lambda: [d for d in dump_directories(traces, "sluice-stall")
                               if [file.name for file in dumps_in(d)] == others], "no dump of a stall by all but rank 2")[0]
        waits = [(e, h) for h, es in map(read_dump, dumps_in(stall)) for e in es
                 if e["open"] and KINDS[e["kind"]] in ("wait", "hop")]
        assert any(e["peer"] == 2 and h["end_ns"] - e["begin"] > 5e8 for e, h in waits), waits
        os.kill(pid, signal.SIGKILL)
        assert server.process.wait(timeout=LIMIT) == 5, server.log.read_text()
        end = dump_directories(traces, "sluice-end")
        assert len(end) == 1, server.log.read_text()
        ranks = {read_dump(file)[0]["rank"] for file in dumps_in(end[0])}
        assert 2 not in ranks and len(ranks) >= 3, (ranks, server.log.read_text())
        missing = ", ".join(str(rank) for rank in range(RANKS) if rank not in ranks)
        assert f"missing: rank {missing}\n" in sluice(program, "merge", end[0], "-o", scratch / "m.json").stderr
        print(f"ok a stall is dumped with its waits, the end by ranks {sorted(ranks)}")
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()


def ignore(what):
    try:
        what()
    except (OSError, ValueError):
        pass


def check_clocks(program, model, scratch):
    """A node whose monotonic clock is 5,000 s ahead, in a time namespace of its own: its ranks' times are aligned."""
    ahead = 5000
    prefix = ["unshare", "--time", "--fork", "--kill-child", "--monotonic", str(ahead)]
    if shutil.which("unshare") is None or subprocess.run([*prefix, "true"], capture_output=True).returncode != 0:
        print("left out: time namespaces are not allowed here")
        return
    port, join = free_port(), f"127.0.0.1:{free_port()}"
    environment = {**os.environ, "SLUICE_JOB_SECRET": "the-secret-of-a-test-of-clocks"}
    commands = []
    try:
        for node in (0, 1):
            line = [program, "serve", "--model-path", str(model), "--served-model-name", "m", "--port", str(port),
                    "--context-length", "2048", "--pp-size", "2", "--tp", "2", "--enable-nsa-prefill-context-parallel",
                    "--chunked-prefill-size", "64", "--nnodes", "2", "--node-rank", str(node), "--dist-init-addr", join]
            with open(scratch / f"clock{node}.log", "w") as log:
                commands.append(subprocess.Popen((prefix if node else []) + line, stdout=log, stderr=log, env=environment))

        def ready():
            try:
                return ask(port, "GET", "/health")[0] == 200
            except OSError:
                return False
        until(ready, (scratch / "clock0.log").read_text())
        assert ask(port, "POST", "/start_profile", {"output_dir": str(scratch / "clocks")})[0] == 200
        assert complete(port)[0] == 200
        files = ask(port, "POST", "/stop_profile")[1]["files"]
    finally:
        for command in commands:
            command.send_signal(signal.SIGTERM)
        for command in commands:
            try:
                command.wait(timeout=LIMIT)
            except subprocess.TimeoutExpired:
                command.kill()
                command.wait()
    error = 0.0
    for file in files:
        header, _ = read_dump(file)
        if header["stage"] == 0:
            assert header["clock"] == [], "of the same clock"
            continue
        assert len(header["clock"]) == 2, header["clock"]
        for point in header["clock"]:
            assert abs(point["offset_ns"] - ahead * 10**9) <= point["error_ns"] + 10_000_000, point
            error = max(error, point["error_ns"] / 1000)
    sluice(program, "merge", pathlib.Path(files[0]).parent, "-o", scratch / "clocks.json")
    document = json.loads((scratch / "clocks.json").read_text())
    check_schema(document)
    assert abs(document["otherData"]["clock_error_us"] - error) < 0.01
    ends = {(e["id"], e["ph"]): e["ts"] for e in document["traceEvents"] if e["ph"] in "sf"}
    flights = [ts - ends[number, "s"] for (number, phase), ts in ends.items() if phase == "f"]
    assert flights and min(flights) >= -2 * error and max(flights) < LIMIT * 1e6, (min(flights), max(flights), error)
    print(f"ok a clock {ahead} s ahead: known to {error:.1f} us, {len(flights)} hops of {min(flights):.0f} us and more")


def synthetic(directory, events):
    """Trace files of three ranks with so many events each, written as docs/tracing.md describes them."""
    directory.mkdir()
    for rank in range(3):
        header = {"format": "sluice trace 1", "rank": rank, "ranks": 3, "stage": rank, "stages": 3, "lane": 0, "lanes": 1,
                  "visits": 1, "host": "h", "reason": "test", "begin_ns": 0, "end_ns": 1000 * events, "events": events,
                  "lost": 0, "names": ["Linear"], "clock": []}
        with open(directory / f"rank-{rank}.sltrace", "wb") as file:
            file.write(json.dumps(header).encode() + b"\n")
            for i in range(events):
                file.write(RECORD.pack(1000 * i, 1000 * i + 900, i, 64, 0, 1, -1, 0, 1, 0))


def peak_kib(program, *words):
    with open(os.devnull, "w") as nowhere:
        process = subprocess.Popen([program, "trace", *map(str, words)], stdout=nowhere, stderr=nowhere)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss


def check_memory(program, scratch):
    """Sixteen times as many events, no more memory."""
    synthetic(scratch / "few", 10_000)
    synthetic(scratch / "many", 160_000)
    for words in (["merge", "-o", "-"], ["table"]):
        few, many = (peak_kib(program, *words, scratch / which) for which in ("few", "many"))
        assert many < few + 2048, (words, few, many)
    size = sum(f.stat().st_size for f in dumps_in(scratch / "many")) >> 10
    print(f"ok memory of a merge is bounded: {few} KiB and {many} KiB for files of {size} KiB")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True)
    program = parser.parse_args().sluice
    with tempfile.TemporaryDirectory() as directory:
        scratch = pathlib.Path(directory)
        model = scratch / "m"
        subprocess.run([program, "checkpoint", "make", str(model), "--preset", "tiny"], check=True, capture_output=True)
        check_memory(program, scratch)
        check_routes(program, model, scratch)
        check_ring(program, model, scratch)
        check_loss(program, model, scratch)
        check_clocks(program, model, scratch)


if __name__ == "__main__":
    main()
