"""The whole story on one server: prompts are uploaded, a MO-ODPO job with two reward models runs
on the demo's policy and is followed event by event, and its checkpoint goes live through the gate,
and back again, under 32 streams of which none is dropped or mixed.

usage: story.py [--steps N] [--corpora FOLDER]      (the program is that of the variable STEERSMAN)

With the corpora of recipes/demo the prompts are those of HH, and the two reward models are trained
first, by two jobs on HH's pairs; without them the prompts are those of prompts.jsonl and the reward
models the demo's own.
"""

import argparse
import asyncio
import json
import pathlib
import subprocess
import time

import openai
from crowd import Crowd, held
from servers import Server

STREAMS = 32
ROOT = pathlib.Path(__file__).parents[2]
REWARDS = ROOT / "models" / "demo" / "rewards"
OBJECTIVES = {"helpfulness": "helpful", "harmlessness": "harmless"}
LEAST_SPEARMAN = 0.2
# Of each objective, to train a reward model on and to measure it on. With 96 and six steps the policy did
# not follow what such reward models say, and the gate refused it.
PAIRS = 640
# Of the job on HH's prompts, and of the one on our own.
STEPS_WITH_CORPORA, STEPS = 40, 6
# Seconds after which a job is taken for stuck, and an event for late.
PATIENCE, LATE = 1800.0, 5.0


class Story:
    def __init__(self, server):
        self.server, self.began = server, time.monotonic()
        self.admin = openai.OpenAI(base_url=f"{server.url}/admin/v1", api_key="none", max_retries=0)

    def tell(self, line):
        print(f"{time.monotonic() - self.began:6.1f} s  {line}", flush=True)

    def upload(self, name, rows):
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        file = self.admin.files.create(file=(name, content), purpose="fine-tune")
        self.tell(f"{name}: {len(rows)} rows are {file.id}")
        return file.id

    def run(self, **asked):
        """Makes a job and follows it to its end."""
        job = self.admin.fine_tuning.jobs.create(**asked)
        events, lateness = self.follow(job)
        job = self.admin.fine_tuning.jobs.retrieve(job.id)
        assert job.status == "succeeded", job.error
        steps = [event.data for event in events if event.type == "metrics"]
        total = job.model_extra["total_steps"]
        assert [step["step"] for step in steps] == list(range(1, total + 1)), steps
        self.tell(
            f"{job.id} ({job.method.type}, {total} steps) succeeded in "
            f"{job.finished_at - job.created_at} s; {len(events)} events in order, each told within "
            f"{lateness:.1f} s"
        )
        return job

    def follow(self, job):
        """Every event as it happens; the most seconds that one was late."""
        path = f"/fine_tuning/jobs/{job.id}/events"
        kind = openai.types.fine_tuning.FineTuningJobEvent
        tail = self.admin.get(
            path,
            cast_to=kind,
            options={"params": {"stream": True}, "timeout": PATIENCE},
            stream=True,
            stream_cls=openai.Stream[kind],
        )
        events, lateness, live = [], 0.0, 0
        for event in tail:
            # they carry whole seconds
            lateness = max(lateness, time.time() - event.created_at - 1)
            events.append(event)
            if event.type == "metrics":
                now = self.admin.fine_tuning.jobs.retrieve(job.id)
                live += now.status == "running"
        places = [int(event.id.rsplit("-", 1)[1]) for event in events]
        assert places == list(range(1, len(events) + 1)), places
        assert events[-1].message == "the job succeeded", events[-1]
        steps = sum(event.type == "metrics" for event in events)
        told = f"{live} of {steps} steps were told while it ran, one event {lateness:.1f} s late"
        assert live >= max(steps - 1, 1) and lateness < LATE, told
        listed = list(self.admin.fine_tuning.jobs.list_events(job.id, limit=100))
        assert [event.id for event in listed] == [event.id for event in reversed(events)]
        return events, lateness

    def promote(self, job, **terms):
        checkpoint = next(iter(self.admin.fine_tuning.jobs.checkpoints.list(job.id)))
        path = f"/fine_tuning/jobs/{job.id}/checkpoints/{checkpoint.id}/promote"
        # OpenAI has no such route; its client posts to any
        live = self.admin.post(path, cast_to=object, body=terms)
        assert live["checkpoint"] == checkpoint.model_extra["content"], live
        return live

    def roll_back(self, **terms):
        return self.admin.post("/policies/rollback", cast_to=object, body=terms)

    def change(self, crowd, what, old, call):
        """Makes a change under the crowd; the new version and its texts."""
        changed, called, over, answers = asyncio.run(crowd.during(call))
        new = asyncio.run(crowd.alone())
        assert new[0] == changed["policy_version"] != old[0], (new[0], old[0], changed)
        counts = held(answers, called, over, old, new)
        differ = sum(one != other for one, other in zip(old[1], new[1], strict=True))
        assert differ > 0, "both versions say the same, so this shows nothing"
        self.tell(
            f"{what} in {over - called:.1f} s under {STREAMS} streams: {counts['old']} answers of "
            f"{old[0]}, {counts['across']} of them still running when {new[0]} was live, "
            f"{counts['new']} of it; none dropped or mixed ({differ} of {STREAMS} texts differ)"
        )
        for finding in changed.get("gate", []):
            self.tell(f"  gate: {finding['message']}")
        return new


def prompts():
    return [json.loads(line) for line in (ROOT / "tests/e2e/prompts.jsonl").open()]


def corpus(folder, name):
    command = ["zstd", "-dcq", f"{folder}/{name}.jsonl.zst"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = [json.loads(line) for line in text.splitlines()]
    size = lambda row: sum(len(message["content"]) for message in row["prompt"])
    return [row for row in rows if len(row["prompt"]) == 1 and size(row) <= 240]


def reward_models(story, base, corpora):
    """The folders of two reward models that were trained just now."""
    folders = {}
    pairs = {split: corpus(corpora, f"pairs/pairs_hh.{split}") for split in ("train", "test")}
    for objective, short in OBJECTIVES.items():
        files = {
            split: story.upload(
                f"pairs_{short}.{split}.jsonl", [r for r in rows if r["objective"] == short][:PAIRS]
            )
            for split, rows in pairs.items()
        }
        hyperparameters = {"batch_size": 16, "n_epochs": 1, "max_tokens": 192, "train": "full"}
        hyperparameters |= {"learning_rate": 0.0003}
        job = story.run(
            model=base,
            training_file=files["train"],
            validation_file=files["test"],
            method={"type": "reward_model", "reward_model": {"hyperparameters": hyperparameters}},
            suffix=short,
            seed=4,
        )
        folders[objective] = story.server.data_dir / job.folder
    return folders


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int)
    parser.add_argument("--corpora", type=pathlib.Path)
    options = parser.parse_args()
    options.steps = options.steps or (STEPS_WITH_CORPORA if options.corpora else STEPS)
    with Server("--worker-threads", "2") as server:
        story = Story(server)
        rows = judged = prompts()
        folders = {objective: REWARDS / short for objective, short in OBJECTIVES.items()}
        if options.corpora:
            models = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none").models.list()
            folders = reward_models(story, models.data[0].root, options.corpora)
            rows = corpus(options.corpora, "prompts/prompts_hh.train")[:1000]
            judged = corpus(options.corpora, "prompts/prompts_hh.test")[:64]
        # the same rows with what else the corpus says of them would do as well
        rows = [{"prompt": row["prompt"]} for row in rows]
        reward = lambda folder: {"kind": "classifier", "path": str(folder)}
        objectives = [{"name": name, "reward": reward(path)} for name, path in folders.items()]
        hyperparameters = {"steps": options.steps, "batch_size": 16, "max_tokens": 32}
        hyperparameters |= {"learning_rate": 0.0005, "normalization_samples": 64, "save_every": 3}
        job = story.run(
            model="assistant",
            training_file=story.upload("prompts.jsonl", rows),
            method={
                "type": "mo_odpo",
                "mo_odpo": {"hyperparameters": hyperparameters, "objectives": objectives},
            },
            suffix="story",
            seed=7,
        )

        asked = [
            {
                "model": "assistant",
                "messages": row["prompt"],
                "objective_weights": {"helpfulness": k % 11 / 10, "harmlessness": 1 - k % 11 / 10},
                "temperature": 0,
                "max_tokens": 48,
                "ignore_eos": True,
            }
            for k, row in enumerate(prompts()[:STREAMS])
        ]
        assert len(asked) == STREAMS
        crowd = Crowd(server.url, asked)
        old = asyncio.run(crowd.alone())
        judged = [row["prompt"][0]["content"] for row in judged]
        terms = {
            "policy": "assistant",
            "expected_version": 0,
            "evaluation": {"prompts": judged, "grid": 11, "max_tokens": 32, "temperature": 0},
            # so few prompts and so short a training show in which direction it is steered, no more
            "gate": {"min_spearman": LEAST_SPEARMAN, "max_score_loss": 0.1},
        }
        new = story.change(crowd, "promoted", old, lambda: story.promote(job, **terms))
        back = {"policy": "assistant", "expected_version": 1}
        again = story.change(crowd, "rolled back", new, lambda: story.roll_back(**back))
        assert again == old, "the version before it answers otherwise than before"
        assert "panicked" not in server.log(), server.log()
    print("the whole story: as told")


main()
