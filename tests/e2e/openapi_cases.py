"""Schemathesis over the OpenAPI document of a server with keys: every route, at least 2,000 cases,
no 5xx, no status or shape that is not documented, and answers as well as refusals on each route.

usage: openapi_cases.py [EXAMPLES] [SEED]
"""

import collections
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

from servers import Server

LEAST_CASES = 2000
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
    "missing_required_header",
    "use_after_free",
    "ensure_resource_availability",
    "ignored_auth",
    "chunks_conform",
]


def run(server, folder, examples, seed):
    here = pathlib.Path(__file__).parent
    key = server.keys["everything"]
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json"]
    command += ["--phases", "examples,coverage,fuzzing", "--checks", ",".join(CHECKS)]
    command += ["--max-examples", examples, "--seed", seed, "--continue-on-failure"]
    command += ["--suppress-health-check", "all", "--warnings", "off"]
    command += ["--header", f"Authorization: Bearer {key}"]
    command += ["--report", "json", "--report-json-path", f"{folder}/report.json"]
    environment = os.environ | {
        "SCHEMATHESIS_HOOKS": "openapi_hooks",
        "PYTHONPATH": str(here),
        "OPENAPI_STATUSES": f"{folder}/statuses.json",
    }
    subprocess.run(command, env=environment, cwd=folder, check=True)
    report = json.loads(pathlib.Path(folder, "report.json").read_text())
    return report, json.loads(pathlib.Path(folder, "statuses.json").read_text())


def put_profile(server):
    """The profile that comparisons are of: nothing that a schema could draw."""
    key = server.keys["everything"]
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    body = json.dumps({"objective_weights": {"brevity": 0.5, "detail": 0.5}}).encode()
    url = f"{server.url}/v1/profiles/ada"
    urllib.request.urlopen(urllib.request.Request(url, body, headers, method="PUT")).close()


def main():
    examples, seed = (sys.argv[1:] + ["15", "1"][len(sys.argv) - 1 :])[:2]
    keys = {"everything": ["--scope", "generate,profiles,metrics"]}
    with tempfile.TemporaryDirectory() as folder, Server(keys=keys) as server:
        put_profile(server)
        report, statuses = run(server, folder, examples, seed)
        assert "panicked" not in server.log(), server.log()
    operations, cases = report["operations"], report["test_cases"]
    assert operations["tested"] == operations["total"], operations
    assert cases["generated"] >= LEAST_CASES, cases
    answered = collections.Counter()
    for what, count in statuses.items():
        route, _, status = what.rpartition(" ")
        answered[route] += count if status.startswith("2") else 0
    silent = [route for route in answered if route.startswith("POST") and not answered[route]]
    assert not silent, f"never answered: {silent} of {statuses}"
    assert statuses["chunks of streams"] > 0, statuses
    print(f"{cases['generated']} cases over {operations['tested']} operations, no failure")


main()
