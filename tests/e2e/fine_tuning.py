"""The official `openai` client against the admin routes: files, jobs, events, checkpoints, and the
promotion of one of them."""

import json
import sys
import time
import urllib.request

import openai

url = sys.argv[1]
client = openai.OpenAI(base_url=f"{url}/admin/v1", api_key="none", max_retries=0)
questions = ["What is the capital of France?", "How many people live in Egypt?"]
rows = [{"prompt": [{"role": "user", "content": text}]} for text in questions]
content = "".join(json.dumps(row) + "\n" for row in rows)


def refused(kind, code, call):
    try:
        call()
    except kind as error:
        assert error.code == code, (error.code, code)
        return str(error)
    raise AssertionError(f"expected {kind.__name__} ({code})")


def upload(text):
    return client.files.create(file=("rows.jsonl", text.encode()), purpose="fine-tune")


told = refused(openai.BadRequestError, "invalid_file", lambda: upload(content + "{\n"))
assert "line 3" in told, told
file = upload(content)
assert (file.object, file.purpose, file.bytes) == ("file", "fine-tune", len(content)), file
assert client.files.retrieve(file.id).model_dump() == file.model_dump()
assert client.files.content(file.id).text == content
assert [each.id for each in client.files.list()] == [file.id]


def reward(goal):
    rule = {"name": "length", "unit": "characters", "goal": goal, "scale": 40.0}
    return {"kind": "rule", "rule": rule}


method = {
    "type": "mo_odpo",
    "mo_odpo": {
        "hyperparameters": {
            "steps": 3,
            "save_every": 1,
            "batch_size": 2,
            "max_tokens": 8,
            "normalization_samples": 16,
        },
        "objectives": [
            {"name": "brevity", "reward": reward("shorter")},
            {"name": "detail", "reward": reward("longer")},
        ],
    },
}
jobs = client.fine_tuning.jobs


def create(**options):
    options = {"model": "facts", "training_file": file.id, "method": method, "seed": 7} | options
    return jobs.create(**options)


refused(openai.NotFoundError, "model_not_found", lambda: create(model="nobody"))
paused = create(metadata={"team": "a"})
assert (paused.object, paused.status) == ("fine_tuning.job", "queued"), paused
assert paused.metadata == {"team": "a"}, paused
paused = jobs.pause(paused.id)
job = create(suffix="e2e")
assert job.method.type == "mo_odpo", job.method
assert [each.id for each in jobs.list(limit=1)] == [job.id, paused.id]

waited = time.monotonic() + 240
while True:
    job = jobs.retrieve(job.id)
    if job.status in ("succeeded", "failed", "cancelled"):
        break
    assert time.monotonic() < waited, job
    time.sleep(0.3)
assert job.status == "succeeded", job.error
assert job.fine_tuned_model == "e2e", job
[results] = job.result_files
assert client.files.retrieve(results).filename == "step_metrics.csv"
steps = client.files.content(results).text.splitlines()
assert steps[0].startswith("step,") and [line[:2] for line in steps[1:]] == ["1,", "2,", "3,"], steps

events = list(jobs.list_events(job.id, limit=3))
assert {event.object for event in events} == {"fine_tuning.job.event"}, events
metrics = [event.data for event in events if event.type == "metrics"]
# A step whose pairs are all ties has no loss, but always a score.
assert len(metrics) == 3 and all("score" in step for step in metrics), metrics
with urllib.request.urlopen(f"{url}/admin/v1/fine_tuning/jobs/{job.id}/events?stream=true") as tail:
    lines = [line.decode().strip() for line in tail if line.startswith(b"data: ")]
assert lines[-1] == "data: [DONE]" and len(lines) == len(events) + 1, lines
checkpoint = next(iter(jobs.checkpoints.list(job.id)))
assert checkpoint.step_number == 3 and checkpoint.metrics.score is not None, checkpoint


def promote(which, **terms):
    # OpenAI has no such route; its client posts to any
    path = f"/fine_tuning/jobs/{job.id}/checkpoints/{which}/promote"
    return client.post(path, cast_to=object, body=terms)


measured = {
    "evaluation": {"prompts": questions, "grid": 3, "max_tokens": 8},
    "gate": {"min_spearman": -1.0, "baseline": "nothing"},
}
gate = refused(openai.ConflictError, "gate_refused", lambda: promote(checkpoint.id, expected_version=0))
assert "was not measured" in gate, gate
live = promote(checkpoint.id, expected_version=0, **measured)
assert (live["id"], live["version"]) == (job.fine_tuned_model, 1), live
assert live["checkpoint"] == checkpoint.model_extra["content"], live
stale = lambda: promote(checkpoint.id, expected_version=0, **measured)
refused(openai.ConflictError, "generation_mismatch", stale)
refused(openai.NotFoundError, "checkpoint_not_found", lambda: promote("ftckpt-0-3", expected_version=1))
answer = openai.OpenAI(base_url=f"{url}/v1", api_key="none").chat.completions.create(
    model=job.fine_tuned_model, messages=[{"role": "user", "content": questions[0]}], max_tokens=4
)
assert answer.steering["policy_version"] == live["policy_version"], answer
gone = client.delete("/policies/e2e?expected_version=1", cast_to=object)
assert gone["deleted"] and gone["version"] == 2, gone
assert "e2e" not in [model.id for model in openai.OpenAI(base_url=f"{url}/v1/", api_key="none").models.list()]

paused = jobs.retrieve(paused.id)
assert paused.status == "paused", paused
assert [each.id for each in jobs.list(metadata={"team": "a"})] == [paused.id]
assert not list(jobs.list(metadata={"team": "b"}))
assert jobs.resume(paused.id).status in ("queued", "running")
cancelled = jobs.cancel(paused.id)
assert cancelled.status in ("cancelled", "running"), cancelled
refused(openai.ConflictError, "job_not_cancellable", lambda: jobs.cancel(job.id))
refused(openai.NotFoundError, "job_not_found", lambda: jobs.retrieve("ftjob-nobody"))
while jobs.retrieve(paused.id).status != "cancelled":
    assert time.monotonic() < waited, paused
    time.sleep(0.3)
assert client.files.delete(file.id).deleted

# offline preferences, in OpenAI's own shapes
says = lambda role, text: [{"role": role, "content": text}]
pair = {
    "input": {"messages": says("user", questions[0])},
    "preferred_output": says("assistant", "Paris."),
    "non_preferred_output": says("assistant", "The capital of France is Paris, a large city."),
    "weights": {"brevity": 1.0},
}
pairs = upload(json.dumps(pair) + "\n")
dpo = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2, "batch_size": 1, "n_epochs": 2}}}
told = {"type": "dpo", "dpo": {"hyperparameters": {"beta": -1}}}
told = refused(
    openai.BadRequestError,
    "invalid_value",
    lambda: create(training_file=pairs.id, method=told),
)
assert "method.dpo.hyperparameters.beta" in told, told
job = create(training_file=pairs.id, validation_file=pairs.id, method=dpo, suffix="terse")
assert job.method.dpo.hyperparameters.beta == 0.2, job.method
assert job.method.dpo.hyperparameters.n_epochs == 2, job.method
while job.status not in ("succeeded", "failed", "cancelled"):
    assert time.monotonic() < waited, job
    time.sleep(0.3)
    job = jobs.retrieve(job.id)
assert job.status == "succeeded" and job.trained_tokens > 0, job
checkpoint = next(iter(jobs.checkpoints.list(job.id)))
assert checkpoint.metrics.valid_loss is not None, checkpoint
print(f"openai {openai.__version__}: files, jobs, events, checkpoints, promotion as expected")
