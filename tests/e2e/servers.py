"""Starts servers of a binary on free ports, each with its own state, and makes keys for them."""

import contextlib
import os
import pathlib
import signal
import subprocess
import tempfile

BINARY = os.environ.get("STEERSMAN", "target/release/steersman")


class Server:
    """A running server, with state of its own unless it is given some. Leaving its context ends
    it."""

    def __init__(self, *flags, keys=None, data_dir=None, environment=None):
        self._folder = tempfile.TemporaryDirectory()
        self.data_dir = pathlib.Path(data_dir or self._folder.name)
        self._log = open(self.data_dir / "log", "w")
        self.keys = {name: self._make_key(name, *options) for name, options in (keys or {}).items()}
        self.process = subprocess.Popen(
            [BINARY, "serve", "--addr", "127.0.0.1:0", "--data-dir", self.data_dir, *flags],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=os.environ | (environment or {}),
        )
        line = self.process.stdout.readline()
        assert " ready on " in line, f"the server said {line!r}: {self.log()}"
        self.url = line.split(" ready on ")[1].strip()

    def _make_key(self, name, *options):
        command = [BINARY, "keys", "create", "--name", name, "--data-dir", self.data_dir, *options]
        made = subprocess.run(command, check=True, capture_output=True, text=True)
        return made.stdout.strip().splitlines()[-1]

    def log(self):
        return (self.data_dir / "log").read_text()

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        self._log.close()
        self._folder.cleanup()
