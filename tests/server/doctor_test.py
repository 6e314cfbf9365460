"""`sluice doctor` says a line for everything it looks at, and its exit code follows from the verdicts; two of them find
each other and compare clocks. Usage: doctor_test.py --sluice PROGRAM"""

import argparse
import re
import resource
import signal
import socket
import subprocess

LINE = re.compile(r"(ok  |warn|bad ) ([^:]+(?:127\.0\.0\.1:\d+)?): (.+?)(?: -> (.+))?")
LOOKED_AT = ["processor", "instruction set", "memory", "overcommit", "shared memory", "open files", "processes and threads",
             "locked memory", "address space", "NVIDIA driver", "CUDA", "NCCL", "interface lo", "RDMA devices", "host name",
             "clock"]


def findings_of(text):
    """{what: (verdict, found, remedy)}; the last line counts the verdicts."""
    *lines, counts = text.strip().split("\n")
    findings = {}
    for line in lines:
        match = LINE.fullmatch(line)
        assert match, line
        verdict, what, found, remedy = match.groups()
        assert (verdict == "ok  ") == (remedy is None), line
        findings[what] = (verdict.strip(), found, remedy)
    verdicts = [verdict for verdict, _, _ in findings.values()]
    assert counts == ", ".join(f"{verdicts.count(v)} {v}" for v in ("ok", "warn", "bad")), (counts, text)
    return findings


def doctor(program, *flags, limits=()):
    def lower():
        for which, value in limits:
            resource.setrlimit(which, (value, value))

    run = subprocess.run([program, "doctor", *flags], capture_output=True, text=True, timeout=60, preexec_fn=lower)
    findings = findings_of(run.stdout)
    bad = [what for what, (verdict, _, _) in findings.items() if verdict == "bad"]
    assert run.returncode == (1 if bad else 0), (run.returncode, run.stdout, run.stderr)
    return findings, bad


def check_host(program):
    findings, _ = doctor(program)
    missing = [what for what in LOOKED_AT if what not in findings]
    assert not missing, (missing, findings)
    assert "127.0.0.1" in findings["interface lo"][1]
    print("ok everything is looked at")


def check_limits(program):
    for limits, what, verdict, phrase in (
            ([(resource.RLIMIT_NOFILE, 128)], "open files", "bad", "128 (hard limit 128)"),
            ([(resource.RLIMIT_NOFILE, 1024)], "open files", "warn", "1024 (hard limit 1024)")):
        findings, bad = doctor(program, limits=limits)
        assert findings[what][0] == verdict and phrase in findings[what][1] and "ulimit" in findings[what][2], findings[what]
        assert (what in bad) == (verdict == "bad")
    print("ok tight limits turn the verdict and the exit code")


def check_meeting_point(program):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        findings, bad = doctor(program, "--dist-init-addr", address)
    assert bad == [f"meeting point {address}"] and "already in use" in findings[bad[0]][1], findings
    findings, bad = doctor(program, "--dist-init-addr", address)
    assert findings[f"meeting point {address}"][0] == "ok", findings
    print("ok a meeting point is free or taken")


def check_peers(program):
    listening = subprocess.Popen([program, "doctor", "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True)
    try:
        for line in listening.stdout:
            answering = re.search(r"--peer (127\.0\.0\.1:\d+)` until", line)
            if answering:
                break
        peer = answering.group(1)
        findings, _ = doctor(program, "--peer", peer)
        assert findings[f"peer {peer}"][0] == findings[f"build of {peer}"][0] == "ok", findings
        verdict, found, _ = findings[f"clock of {peer}"]
        skew, unsure = map(float, re.fullmatch(r"([+-][\d.]+) ms against this host's, known to ([\d.]+) ms", found).groups())
        assert verdict == "ok" and abs(skew) <= unsure + 0.002, found
    finally:
        listening.send_signal(signal.SIGTERM)
        assert listening.wait(timeout=10) == 0
    findings, bad = doctor(program, "--peer", peer)
    assert bad == [f"peer {peer}"] and "Connection refused" in findings[bad[0]][1], findings
    print(f"ok two doctors meet: {found}")


def check_refusals(program):
    for flags, code, phrase in ((["--peer", "node7"], 2, "has no port"), (["--listen", "0.0.0.0:0"], 2, "every interface"),
                                (["--timeout", "0"], 2, "--timeout 0"), (["--listen", "192.0.2.77:1"], 6, "cannot listen")):
        run = subprocess.run([program, "doctor", *flags], capture_output=True, text=True, timeout=60)
        assert run.returncode == code and phrase in run.stderr and not run.stdout, (flags, run)
    print("ok wrong flags are refused before anything is looked at")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sluice", required=True)
    program = parser.parse_args().sluice
    for check in (check_host, check_limits, check_meeting_point, check_peers, check_refusals):
        check(program)


if __name__ == "__main__":
    main()
