"""Models of a hub by name, in one cache with Hugging Face's own library: what it fetched is served
offline, what the server fetched it finds, and neither fetches it again. The hub is a stand-in.

usage: hub.py      (the program is that of the variable STEERSMAN)
"""

import hashlib
import http.server
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import urllib.request

from servers import BINARY, Server

MODEL = pathlib.Path("models/demo")
REPOSITORY = "steersman/demo"
COMMIT = "89abcdef0123456789abcdef0123456789abcdef"
FILES = {
    str(path.relative_to(MODEL)): path.read_bytes()
    for path in sorted(MODEL.rglob("*"))
    if path.is_file()
} | {"pytorch_model.bin": b"of no use", "onnx/model.onnx": b"of no use"}


def etag(name):
    content = FILES[name]
    if name.endswith(".safetensors"):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def entry(name):
    """A file as the library asks for it."""
    size = len(FILES[name])
    found = {"type": "file", "path": name, "size": size, "oid": etag(name)}
    if name.endswith(".safetensors"):
        return found | {"oid": "0" * 40, "lfs": {"oid": etag(name), "size": size, "pointerSize": 130}}
    return found


class Hub(http.server.BaseHTTPRequestHandler):
    """Large files lie on another host, as on huggingface.co."""

    protocol_version = "HTTP/1.1"
    asked = []
    elsewhere = None

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        self.asked.append((self.command, self.path, self.headers.get("authorization")))
        if self.path.startswith(f"/api/models/{REPOSITORY}/revision/"):
            siblings = [{"rfilename": name} for name in FILES]
            info = {"id": REPOSITORY, "sha": COMMIT, "siblings": siblings}
            return self.reply(200, json.dumps(info).encode(), {"content-type": "application/json"})
        if self.path.startswith(f"/api/models/{REPOSITORY}/tree/{COMMIT}"):
            return self.reply(200, json.dumps([entry(name) for name in FILES]).encode(), {})
        _, _, name = self.path.partition(f"/{REPOSITORY}/resolve/{COMMIT}/")
        stored = self.path.removeprefix("/stored/").partition("?")[0]
        if name in FILES and name.endswith(".safetensors"):
            headers = {
                "location": f"{self.elsewhere}/stored/{name}?signed=yes",
                "x-linked-etag": f'"{etag(name)}"',
                "x-linked-size": str(len(FILES[name])),
                "x-repo-commit": COMMIT,
            }
            return self.reply(302, b"", headers)
        if name not in FILES and stored not in FILES:
            return self.reply(404, b"", {"x-error-code": "EntryNotFound"})
        name = name or stored
        self.reply(200, FILES[name], {"etag": f'"{etag(name)}"', "x-repo-commit": COMMIT})

    def reply(self, status, content, headers):
        self.send_response(status)
        for key, value in ({"content-length": str(len(content))} | headers).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def listen():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def library(environment, *patterns, offline=False):
    """`snapshot_download` in a process of its own, since the library reads its variables once."""
    code = (
        "import sys; from huggingface_hub import snapshot_download as s;"
        "print(s(sys.argv[1], allow_patterns=sys.argv[2:] or None))"
    )
    command = [sys.executable, "-c", code, REPOSITORY, *patterns]
    environment = environment | ({"HF_HUB_OFFLINE": "1"} if offline else {})
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return pathlib.Path(done.stdout.strip())


def answer(environment):
    """What the server answers that serves the repository by its name."""
    question = {"prompt": "What is the capital of Kenya?", "temperature": 0, "model": "facts"}
    question["objective_weights"] = {"brevity": 1, "detail": 0}
    with Server("--model", REPOSITORY, "--fine-tuning", "off", environment=environment) as server:
        request = urllib.request.Request(
            f"{server.url}/v1/generate",
            json.dumps(question).encode(),
            {"content-type": "application/json"},
        )
        return json.load(urllib.request.urlopen(request)), server.log()


def gets():
    """The files that were asked for since this was last called."""
    found = [path for method, path, _ in Hub.asked if method == "GET" and "/api/" not in path]
    Hub.asked.clear()
    return found


def main():
    Hub.elsewhere = listen().replace("127.0.0.1", "localhost")
    shared = os.environ | {"HF_ENDPOINT": listen(), "HF_TOKEN": "hf_secret", "HF_HUB_DISABLE_XET": "1"}
    for name in ["HF_HUB_CACHE", "HF_HUB_OFFLINE"]:
        shared.pop(name, None)

    with tempfile.TemporaryDirectory() as home:
        environment = shared | {"HF_HOME": home}
        told, log = answer(environment)
        assert "fetched steersman/demo" in log, log
        tokens = {(path.startswith("/stored/"), token) for _, path, token in Hub.asked}
        assert tokens == {(False, "Bearer hf_secret"), (True, None)}, tokens
        assert not any(path.endswith((".bin", ".onnx")) for path in gets())
        snapshot = library(environment, offline=True)
        assert snapshot.name == COMMIT, snapshot
        held = [str(path.relative_to(snapshot)) for path in snapshot.rglob("*") if path.is_file()]
        for name in held:
            assert (snapshot / name).read_bytes() == FILES[name], name
        library(environment, *held)
        assert gets() == [], "the library fetches again what the server fetched"
        print(f"hub: {len(held)} files, which the library finds")

    with tempfile.TemporaryDirectory() as home:
        environment = shared | {"HF_HOME": home}
        library(environment)
        assert gets()
        again, log = answer(environment)
        assert gets() == [] and "fetched" not in log, log
        offline, log = answer(environment | {"HF_HUB_OFFLINE": "1"})
        assert Hub.asked == [], Hub.asked
        for other in [again, offline]:
            assert (other["text"], other["steering"]) == (told["text"], told["steering"]), other
        print("hub: what the library fetched is served, offline too")

    command = [BINARY, "inspect", REPOSITORY]
    with tempfile.TemporaryDirectory() as home:
        environment = shared | {"HF_HOME": home, "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 1 and "HF_HUB_OFFLINE" in done.stderr, done


if __name__ == "__main__":
    main()
