"""Schemathesis (PyPI: schemathesis) against /openapi.json of the server: requests made from the description, good and
bad, get no 5xx and no status, media type or error body that the description does not declare. Ends with code 77 when it is
not installed. --examples N: how many requests it makes up for each operation."""

import importlib.util
import os
import subprocess
import sys
import tempfile

import server_under_test

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance," \
         "unsupported_method,allow_header_conformance,negative_data_rejection"


def described_and_kept(url):
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", "run", url + "/openapi.json", "--checks", CHECKS, "--phases",
             "examples,coverage,fuzzing", "--max-examples", os.environ.get("SLUICE_EXAMPLES", "25"), "--seed", "20261",
             "--request-timeout", "30", "--continue-on-failure", "--workers", "2"],
            check=True, cwd=scratch)


if __name__ == "__main__":
    if importlib.util.find_spec("schemathesis") is None:
        print("left out: the schemathesis package is not installed")
        sys.exit(77)
    with server_under_test.base_url() as (where, is_scripted):
        server_under_test.run([described_and_kept], where, is_scripted)
    sys.exit(0)
