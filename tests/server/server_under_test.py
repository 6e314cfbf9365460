"""Which server a client test talks to: --base-url, the variable SLUICE_BASE_URL, or --server PROGRAM, which is
started, prints its URL on the first line and ends when its standard input is closed."""

import argparse
import contextlib
import os
import subprocess


@contextlib.contextmanager
def base_url():
    parser = argparse.ArgumentParser()
    parser.add_argument("--base-url", default=os.environ.get("SLUICE_BASE_URL"))
    parser.add_argument("--server", help="program that serves a scripted engine")
    options = parser.parse_args()
    if not options.server:
        if not options.base_url:
            parser.error("give --base-url, SLUICE_BASE_URL or --server")
        yield options.base_url.rstrip("/"), False
        return
    with subprocess.Popen([options.server], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        try:
            yield program.stdout.readline().strip(), True
        finally:
            program.stdin.close()
            assert program.wait(timeout=10) == 0, "the server did not end well"


def run(checks, url, scripted):
    """Calls every check; those that need the scripted engine are named scripted_*, those that need a model real_*."""
    for check in checks:
        if check.__name__.startswith("real_") and scripted:
            print(f"left out {check.__name__}: it needs a model")
            continue
        if check.__name__.startswith("scripted_") and not scripted:
            print(f"left out {check.__name__}: it needs the scripted engine")
            continue
        check(url)
        print(f"ok {check.__name__}")
