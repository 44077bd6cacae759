"""A server and two workers as on three hosts: a PostgreSQL database and a bucket between them, and a
folder of its own for each. One worker makes a policy, which goes live; the other goes on from it.

usage: ../postgres.sh hosts.py      (the program is that of the variable STEERSMAN)
"""

import contextlib
import os
import pathlib
import subprocess
import tempfile

from buckets import REGISTRY, start_bucket
from servers import BINARY, Server
from small_job import QUESTIONS, TERMS, ask, train

# the program refuses variables of this name that it does not know
DATABASE = os.environ.pop("STEERSMAN_TEST_POSTGRES")


@contextlib.contextmanager
def worker(variables):
    """A worker with an empty folder, which is what is handed out."""
    with tempfile.TemporaryDirectory() as folder:
        command = [BINARY, "worker", "--data-dir", folder, "--registry", REGISTRY]
        log = open(pathlib.Path(folder, "log"), "w")
        process = subprocess.Popen(command, env=os.environ | variables, stderr=log)
        try:
            yield pathlib.Path(folder)
        finally:
            process.kill()
            process.wait()
            log.close()


def promote(url, checkpoint):
    job = checkpoint.fine_tuning_job_id
    path = f"/admin/v1/fine_tuning/jobs/{job}/checkpoints/{checkpoint.id}/promote"
    status, told = ask(url + path, TERMS)
    assert (status, told.get("checkpoint")) == (200, checkpoint.model_extra["content"]), told


def answer(url, policy):
    question = {"prompt": QUESTIONS[0], "model": policy, "max_tokens": 4, "temperature": 0}
    status, told = ask(f"{url}/v1/generate", question)
    assert status == 200, told
    return told["steering"]["policy_version"], told["text"]


def main():
    _, variables = start_bucket()
    variables["STEERSMAN_DATABASE_URL"] = DATABASE
    flags = ["--fine-tuning", "remote", "--registry", REGISTRY]
    with Server(*flags, environment=variables) as server:
        with worker(variables) as folder:
            first = train(server.url, suffix="first")
            assert list(folder.glob("files/file-*.jsonl")), list(folder.iterdir())
        # that host is gone
        promote(server.url, first)
        with worker(variables) as folder:
            second = train(server.url, model="first", suffix="second")
            start = folder / "checkpoints" / first.model_extra["content"]
            assert start.is_dir(), list(folder.iterdir())
        promote(server.url, second)
        names = {path.name for path in server.data_dir.iterdir()}
        assert names == {"log", "files", "checkpoints"}, names
        told = {policy: answer(server.url, policy) for policy in ("first", "second")}
        with Server(*flags, environment=variables) as other:
            assert {policy: answer(other.url, policy) for policy in told} == told
    print(f"three hosts without a shared folder: {', '.join(v for v, _ in told.values())}")


main()
