"""A job that takes seconds, and requests about what it made."""

import json
import time
import urllib.error
import urllib.request

import openai

QUESTIONS = ["What is the capital of France?", "How many people live in Egypt?"]
# The promotion of what such a job made: measured, but held against nothing.
TERMS = {
    "expected_version": 0,
    "evaluation": {"prompts": QUESTIONS, "grid": 3, "max_tokens": 8},
    "gate": {"min_spearman": -1.0, "baseline": "nothing"},
}


def ask(url, body=None):
    """The status and body of a reply."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def train(url, model="facts", suffix="bucket"):
    """A small job that ran to its end; its last checkpoint."""
    client = openai.OpenAI(base_url=f"{url}/admin/v1", api_key="none")
    rows = [{"prompt": [{"role": "user", "content": text}]} for text in QUESTIONS]
    rows = "".join(json.dumps(row) + "\n" for row in rows).encode()
    file = client.files.create(file=("rows.jsonl", rows), purpose="fine-tune")

    def length(goal):
        rule = {"name": "length", "unit": "characters", "goal": goal, "scale": 40.0}
        return {"kind": "rule", "rule": rule}

    hyperparameters = {"steps": 2, "save_every": 1, "batch_size": 2, "max_tokens": 8}
    objectives = [
        {"name": "brevity", "reward": length("shorter")},
        {"name": "detail", "reward": length("longer")},
    ]
    method = {"hyperparameters": hyperparameters | {"normalization_samples": 16}}
    job = client.fine_tuning.jobs.create(
        model=model,
        training_file=file.id,
        method={"type": "mo_odpo", "mo_odpo": method | {"objectives": objectives}},
        suffix=suffix,
        seed=7,
    )
    patience = time.monotonic() + 300
    while job.status in ("queued", "running"):
        assert time.monotonic() < patience, job
        time.sleep(0.3)
        job = client.fine_tuning.jobs.retrieve(job.id)
    assert job.status == "succeeded", job.error
    return next(iter(client.fine_tuning.jobs.checkpoints.list(job.id)))
