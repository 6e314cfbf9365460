"""Two hosts on one machine, for tests: two network namespaces joined by a veth pair, or, where those are not allowed,
two loopback addresses. Programs started on a host end with it, and nothing is left behind."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess

STOP_LIMIT = 30.0


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ip(*words):
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=False)


class TwoHosts:
    """`with TwoHosts() as hosts`: hosts.how says what they are, hosts.addresses what they are reached by."""

    def __enter__(self):
        self.programs = []
        self.names = [f"sluice-{os.getpid()}-{host}" for host in (0, 1)]
        why = self._namespaces()
        self.namespaces = why is None
        if self.namespaces:
            self.how = f"two network namespaces, {self.names[0]} and {self.names[1]}"
            self.addresses = ["10.200.0.1", "10.200.0.2"]
        else:
            self._remove_namespaces()
            self.how = f"two loopback addresses, since network namespaces are not allowed here: {why}"
            self.addresses = ["127.0.0.1", "127.0.0.2"]
        return self

    def _namespaces(self):
        """Makes them; the reason when that is not allowed."""
        if shutil.which("ip") is None:
            return "there is no program ip (package iproute2)"
        ends = [f"sl{os.getpid()}{end}" for end in "ab"]
        steps = [["netns", "add", name] for name in self.names]
        steps.append(["-n", self.names[0], "link", "add", ends[0], "type", "veth", "peer", "name", ends[1], "netns", self.names[1]])
        for host, (name, end) in enumerate(zip(self.names, ends)):
            steps.append(["-n", name, "addr", "add", f"10.200.0.{host + 1}/24", "dev", end])
            steps.append(["-n", name, "link", "set", end, "up"])
            steps.append(["-n", name, "link", "set", "lo", "up"])
        for step in steps:
            made = ip(*step)
            if made.returncode != 0:
                return f"ip {' '.join(step)}: {made.stderr.strip() or made.returncode}"
        return None

    def _remove_namespaces(self):
        if shutil.which("ip") is None:
            return
        for name in self.names:
            if pathlib.Path("/run/netns", name).exists():
                ip("netns", "del", name)

    def prefix(self, host):
        return ["ip", "netns", "exec", self.names[host]] if self.namespaces else []

    def start(self, host, command, environment, log):
        program = subprocess.Popen(self.prefix(host) + command, env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
                                   stdout=log, stderr=log)
        self.programs.append(program)
        return program

    def stop(self):
        """Asks every program to end; their exit codes."""
        for program in self.programs:
            if program.poll() is None:
                program.send_signal(signal.SIGTERM)
        codes = [program.wait(timeout=STOP_LIMIT) for program in self.programs]
        self.programs = []
        return codes

    def __exit__(self, *_):
        try:
            for program in self.programs:
                program.kill()
                program.wait(timeout=STOP_LIMIT)
        finally:
            self._remove_namespaces()


def process_tree(roots):
    """The processes `roots` and their children, by their ids."""
    found = set(roots)
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        if parent in roots:
            found.add(int(entry.name))
    return found


def resident_bytes(pids):
    """Memory that these processes occupy together: the sum of their proportional set sizes, so that a page which
    several share counts once."""
    total = 0
    for pid in pids:
        try:
            for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        except OSError:
            pass  # it has ended
    return total
