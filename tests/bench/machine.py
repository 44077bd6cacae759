"""What a figure was measured on: the processor, the system, the binary and its commit."""

import importlib.metadata
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

WORTH_TELLING = ["avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile"]


def processor():
    fields = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    flags = fields.get("flags", "").split()
    return {
        "name": fields.get("model name"), "family": fields.get("cpu family"),
        "model": fields.get("model"), "cores": os.cpu_count(),
        "flags": [flag for flag in WORTH_TELLING if flag in flags],
    }


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def describe(binary, commit=None):
    """The machine, the moment, and the binary with the commit that it was built from."""
    root = Path(__file__).resolve().parent
    commit = commit or run("git", "-C", root, "rev-parse", "HEAD")
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"), "processor": processor(),
        "system": platform.platform(), "python": platform.python_version(),
        "binary": run(binary, "--version"), "commit": commit,
        "load_average_before": os.getloadavg()[0],
    }


def versions(*packages):
    return {name: importlib.metadata.version(name) for name in packages}
