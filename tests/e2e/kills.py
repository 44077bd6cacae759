"""Kills workers and servers in the middle of training jobs, many times, and holds what is left
against one undisturbed run: the same final bits, no damaged state ever gone on from, at most one
interval of steps done again.

Half of the kills wait until a state or a checkpoint is just being written, the others come at
any moment. Every eighth time one bit of the newest state is flipped as well; its worker must say so
and go on from the state before it. Half of the rounds have a worker alone; in the others a server
keeps it, and the server, its worker or both are killed.

usage: kills.py [KILLS] [SEED]      (the program is that of the variable STEERSMAN)
"""

import collections
import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time

import blake3
import openai
from servers import BINARY

STEPS, INTERVAL = 60, 3
FIXTURE = pathlib.Path(__file__).parents[1] / "fixtures" / "llama"
QUESTIONS = ["What is bread?", "Why wait a week?", "Who is a friend?", "Use cold water?"]
# A server or worker that did nothing for so long hangs.
PATIENCE = 300.0


def model(folder):
    """The tiny fixture with a policy `plain` over it."""
    names = ["config", "generation_config", "tokenizer", "tokenizer_config"]
    folder.mkdir()
    for name in [f"{name}.json" for name in names] + ["model.safetensors"]:
        shutil.copy(FIXTURE / name, folder / name)
    shutil.copytree(FIXTURE / "adapter", folder / "policies" / "plain")
    (folder / "policies.json").write_text('{"default": "plain"}')
    return folder


def method():
    def length(goal):
        rule = {"name": "length", "unit": "characters", "goal": goal, "scale": 8.0}
        return {"kind": "rule", "rule": rule}

    hyperparameters = {
        "steps": STEPS,
        "save_every": INTERVAL,
        "batch_size": 4,
        "max_tokens": 12,
        "max_prompt_tokens": 100,
        "micro_batch_tokens": 64,
        "learning_rate": 0.01,
        "lora_rank": 4,
        "normalization_samples": 32,
    }
    conditioning = {
        "open": "<|pad|>",
        "close": "<|end_of_text|>",
        "template": "{brevity} {detail}",
        "decimals": 1,
    }
    objectives = [
        {"name": "brevity", "reward": length("shorter")},
        {"name": "detail", "reward": length("longer")},
    ]
    part = {"hyperparameters": hyperparameters, "objectives": objectives}
    return {"type": "mo_odpo", "mo_odpo": part | {"conditioning": conditioning}}


class Place:
    """A data folder and the processes over it."""

    def __init__(self, root):
        self.root = root
        self.model = model(root / "model")
        self.data = root / "data"
        self.log = open(root / "log", "w")

    def serve(self, mode):
        command = [BINARY, "serve", "--addr", "127.0.0.1:0", "--fine-tuning", mode, "--model"]
        command += [self.model, "--worker-threads", "1", "--data-dir", self.data]
        options = {"stdout": subprocess.PIPE, "stderr": self.log, "text": True}
        # alone a worker steps back; here it shall be as quick as it can
        environment = os.environ | {"STEERSMAN_LEASE_SECONDS": "1", "STEERSMAN_WORKER_NICE": "0"}
        server = subprocess.Popen(command, env=environment, **options)
        said = server.stdout.readline()
        assert " ready on " in said, f"the server said {said!r}"
        return server, said.split(" ready on ")[1].strip()

    def worker(self, *flags):
        command = [BINARY, "worker", "--threads", "1", "--nice", "0", "--lease-seconds", "1"]
        command += ["--data-dir", self.data, *flags]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self.log)

    def job(self):
        """Makes a job; its id."""
        server, url = self.serve("remote")
        try:
            client = openai.OpenAI(base_url=f"{url}/admin/v1", api_key="none")
            prompts = [{"prompt": [{"role": "user", "content": text}]} for text in QUESTIONS]
            rows = "".join(json.dumps(row) + "\n" for row in prompts).encode()
            file = client.files.create(file=("rows.jsonl", rows), purpose="fine-tune")
            made = client.fine_tuning.jobs.create(
                model="plain", training_file=file.id, method=method(), seed=11, suffix="kills"
            )
            return made.id
        finally:
            kill(server)

    def rows(self, query, *values):
        with contextlib.closing(sqlite3.connect(self.data / "steersman.db", timeout=30)) as db:
            return db.execute(query, values).fetchall()

    def state(self, job):
        return self.rows("SELECT state, attempt FROM jobs WHERE id = ?", job)[0]

    def events(self, job, attempt):
        query = "SELECT message, data FROM job_events WHERE job = ? AND attempt = ? ORDER BY seq"
        return self.rows(query, job, attempt)

    def attempts(self, job):
        """Folders of attempts, newest first."""
        return sorted((self.data / "jobs" / job).glob("attempt-*"), reverse=True)

    def outcome(self, job):
        """Every byte that a job made: its metrics and its adapter."""
        made = self.attempts(job)[0]
        names = ["metrics.jsonl", "policy/adapter_model.safetensors", "policy/steering.json"]
        return {name: (made / name).read_bytes() for name in names}

    def checkpoints(self, job):
        """The adapters of the checkpoints that are listed, by step."""
        listed = self.rows("SELECT step, folder FROM job_checkpoints WHERE job = ?", job)
        name = "adapter_model.safetensors"
        return {step: (self.data / folder / name).read_bytes() for step, folder in listed}


def kill(process):
    process.kill()
    process.wait()


def children(process):
    with contextlib.suppress(FileNotFoundError):
        found = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        rest = pathlib.Path(f"/proc/{process.pid}/task").glob("*/children")
        return [int(pid) for file in rest for pid in file.read_text().split()] or found.split()
    return []


def gone(pid):
    """Whether a process that is not our own child has ended."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def sound(state):
    """The step of a saved state all of whose hashes are right, else None."""
    try:
        manifest = json.loads((state / "manifest.json").read_text())
        if manifest.keys() != {"format_version", "step", "files"} or manifest["format_version"] != 2:
            return None
        if manifest["files"].keys() != {"tensors.safetensors", "state.json"}:
            return None
        for name, digest in manifest["files"].items():
            if blake3.blake3((state / name).read_bytes()).hexdigest() != digest:
                return None
        return manifest["step"] if state.name == f"step-{manifest['step']:08}" else None
    except (OSError, ValueError, KeyError):
        return None


class Ordeal:
    """One job and what is done to it."""

    def __init__(self, place, rng, tally):
        self.place, self.rng, self.tally = place, rng, tally
        self.job = place.job()
        # the step up to which an attempt told that it was, and from which the next must go on
        self.front, self.expected, self.flipped, self.heard = 0, 0, False, 0
        # since one went on: whether one told of damage, and how many said nothing
        self.said, self.silent = False, 0

    def over(self):
        return self.place.state(self.job)[0] not in ("queued", "running")

    def round(self):
        """Starts what works, kills it, looks at what is left."""
        before = self.place.state(self.job)[1]
        with_server = self.rng.random() < 0.5
        server = self.place.serve("local")[0] if with_server else None
        worker = None if with_server else self.place.worker()
        aimed = self.rng.random() < 0.5
        until = time.monotonic() + PATIENCE
        while self.place.state(self.job)[1] == before or not self.place.attempts(self.job):
            assert time.monotonic() < until, "nobody takes the job up"
            time.sleep(0.01)
        self.wait(aimed)
        if server is None:
            kill(worker)
            who = "worker"
        else:
            who = self.rng.choice(["server and worker", "server", "worker of a server"])
            self.kill_of(server, who)
        self.look(who)

    def wait(self, aimed):
        """Until the moment: a write that has just begun, or any."""
        if not aimed:
            time.sleep(self.rng.random() ** 2 * 3.0)
            return
        root = self.place.data / "jobs" / self.job
        states = root / self.place.attempts(self.job)[0].name / "state"
        kind = self.rng.choice(["state", "checkpoint"])

        def begun():
            if kind == "state":
                return {name for name in names(states) if name.startswith(".draft-")}
            return names(root / "checkpoints")

        known, passed = begun(), self.rng.randrange(4)
        while not self.over():
            # the database is asked seldom, the folders as often as can be
            for _ in range(500):
                now = begun()
                if now - known:
                    passed -= 1
                    if passed < 0:
                        time.sleep(self.rng.random() ** 2 * 0.002)
                        return
                known = now
                time.sleep(0)

    def kill_of(self, server, who):
        worker = [int(pid) for pid in children(server)]
        if who == "worker of a server":
            # it would start the next one before we have looked
            os.kill(server.pid, signal.SIGSTOP)
        if who != "server":
            for pid in worker:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        kill(server)
        # one that lost its server saves and ends by itself
        until = time.monotonic() + PATIENCE
        while not all(gone(pid) for pid in worker):
            assert time.monotonic() < until, "the worker outlives its server"
            time.sleep(0.01)

    def look(self, who):
        """Holds what the last attempts said against what lay on disk before them."""
        if self.over():
            return
        self.tally["kills"] += 1
        self.tally[f"killed: {who}"] += 1
        self.tally[f"hit: {self.where()}"] += 1
        self.hear()
        self.damage()
        self.expect()

    def hear(self):
        """What every attempt since the last look went on from."""
        attempt = self.place.state(self.job)[1]
        for number in range(self.heard + 1, attempt + 1):
            self.hear_one(self.place.events(self.job, number))
        self.heard = attempt

    def hear_one(self, events):
        going_on = [m for m, _ in events if m.startswith("going on after step ")]
        fitted = any(m.startswith("fitting reward statistics") for m, _ in events)
        self.said = self.said or any(m.startswith("not used: ") for m, _ in events)
        if not going_on and not fitted:
            self.silent += 1
            return
        began = int(going_on[0].rsplit(" ", 1)[1]) if going_on else 0
        # of a second attempt since the last look nobody knows what it found
        if self.expected is not None:
            newest = f"{self.expected} was the newest sound"
            assert began == self.expected, f"went on from {began}, {newest}"
        lost = self.front - began
        self.tally["attempts that went on or began"] += 1
        which = "most steps lost beside a flipped bit" if self.flipped else "most steps lost"
        self.tally[which] = max(self.tally[which], lost)
        assert lost <= INTERVAL * (2 if self.flipped else 1), f"{lost} steps lost"
        if self.flipped:
            # one that was killed before it could say so has left the sound states to the next
            assert self.said or self.silent, "a damaged state was not told"
            self.tally["damaged states told" if self.said else "damage seen, killed unsaid"] += 1
        self.flipped, self.expected, self.said, self.silent = False, None, False, 0
        steps = [json.loads(data)["step"] for _, data in events if data]
        self.front = max([began, *steps])

    def damage(self):
        """Now and then flips one bit of the newest state, where there is one to go back to."""
        folders = [f for f in self.place.attempts(self.job) if any(map(sound, states(f)))]
        if self.flipped or not folders or self.rng.randrange(8):
            return
        newest = max(filter(sound, states(folders[0])))
        file = self.rng.choice(sorted(newest.iterdir()))
        content = bytearray(file.read_bytes())
        content[self.rng.randrange(len(content))] ^= 1 << self.rng.randrange(8)
        file.write_bytes(content)
        assert sound(newest) is None, file
        self.flipped, self.said, self.silent = True, False, 0
        self.tally["bits flipped"] += 1
        self.tally[f"flipped in {file.name}"] += 1

    def expect(self):
        """Which state the next attempt must go on from: the newest sound one of the newest
        attempt that has any."""
        found = [list(filter(None, map(sound, states(f)))) for f in self.place.attempts(self.job)]
        self.expected = next((max(steps) for steps in found if steps), 0)

    def where(self):
        attempt = self.place.state(self.job)[1]
        newest = self.place.data / "jobs" / self.job / f"attempt-{attempt:08}"
        messages = [message for message, _ in self.place.events(self.job, attempt)]
        if (newest / "state.draft").exists():
            return "while states were taken over"
        if any((newest / "state").glob(".draft-*")):
            return "while a state was written"
        if not any(m.startswith(("going on", "fitting")) for m in messages):
            return "while it was loading"
        listed = {pathlib.Path(folder).name for (folder,) in self.place.rows(
            "SELECT folder FROM job_checkpoints WHERE job = ?", self.job)}
        written = newest.parent.joinpath("checkpoints")
        if written.is_dir() and any(f.name not in listed for f in written.glob(f"*-{newest.name}")):
            return "while a checkpoint was written"
        return "in a step"

    def end(self):
        """Lets the job come to its end."""
        until = time.monotonic() + PATIENCE
        while not self.over():
            assert time.monotonic() < until, "it does not end"
            self.place.worker("--once").wait()
        self.hear()
        assert self.place.state(self.job)[0] == "succeeded", self.place.rows(
            "SELECT error FROM jobs WHERE id = ?", self.job)


def names(folder):
    with contextlib.suppress(FileNotFoundError):
        return set(os.listdir(folder))
    return set()


def states(folder):
    return sorted((folder / "state").glob("step-*"))


def main():
    kills, seed = (int(word) for word in (sys.argv[1:] + ["12", "1"][len(sys.argv) - 1 :])[:2])
    rng, tally = random.Random(seed), collections.Counter()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as root:
        place = Place(pathlib.Path(root))
        lone = place.job()
        place.worker("--once").wait()
        whole, kept = place.outcome(lone), place.checkpoints(lone)
        while tally["kills"] < kills:
            ordeal = Ordeal(place, rng, tally)
            while tally["kills"] < kills and not ordeal.over():
                ordeal.round()
                done = place.rows("SELECT step FROM jobs WHERE id = ?", ordeal.job)[0][0]
                told = f"{tally['kills']}/{kills}, {ordeal.job}: step {done}"
                print(told, dict(tally) if tally["kills"] % 20 == 0 else "", file=sys.stderr)
            ordeal.end()
            outcome = place.outcome(ordeal.job)
            for name, content in whole.items():
                assert outcome[name] == content, f"{name} of {ordeal.job} differs"
            for step, adapter in place.checkpoints(ordeal.job).items():
                assert kept.get(step, adapter) == adapter, f"checkpoint {step} differs"
            tally["jobs that ended with the bits of the undisturbed run"] += 1
    last = json.loads(whole["metrics.jsonl"].splitlines()[-1])
    print(f"{time.monotonic() - began:.0f} s; {STEPS} steps a job, a state every {INTERVAL}; "
          f"last loss {last.get('loss')}")
    for name, count in sorted(tally.items()):
        print(f"{count:5} {name}")


main()
