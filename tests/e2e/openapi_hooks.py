"""What Schemathesis does around each case: half of the sound bodies are made answerable, every
status is counted, and a check of our own reads the chunks inside of streams.

A schema cannot say that of two fields one must be given, or which models exist, so nearly every
body that is drawn from it is refused, and answers would hardly be tested.
"""

import atexit
import collections
import itertools
import json
import os

import jsonschema_rs
import schemathesis

turn = itertools.count()
seen = collections.Counter()

QUESTION = "What is the capital of France?"
CHAT = [{"role": "user", "content": QUESTION}]
SHORT, LONG = {"brevity": 1.0, "detail": 0.0}, {"brevity": 0.0, "detail": 0.5}
# Of names that must exist, and of pairs whose bounds hang together: left to their defaults.
UNSAFE = ["profile", "regex", "response_format", "logit_bias", "stop_token_ids", "suffix", "tools"]
UNSAFE += ["top_logprobs", "logprobs", "max_completion_tokens", "stream_options", "best_of", "echo"]
UNSAFE += ["truncate_prompt_tokens", "messages", "prompt", "points", "grid", "metadata", "tool_choice"]


def answerable(label, body):
    body = {name: value for name, value in body.items() if name not in UNSAFE and value is not None}
    body |= {"model": "default"} if "model" in body else {}
    body |= {"objective_weights": {"detail": 0.25}} if "objective_weights" in body else {}
    path = label.split(" ")[1]
    if path == "/v1/chat/completions":
        body["messages"] = CHAT
    elif path in ("/v1/generate", "/v1/sweep", "/v1/completions", "/v1/tokenize"):
        body["prompt"] = QUESTION
    if path in ("/v1/generate", "/v1/sweep", "/v1/completions", "/v1/chat/completions"):
        body |= {"max_tokens": 8, "min_tokens": 0, "temperature": body.get("temperature") or 0.5}
        body.pop("n", None)
        if next(turn) % 3 == 0:
            body |= {"logprobs": 2 if path == "/v1/completions" else True}
    if path == "/v1/sweep":
        body |= {"grid": 3}
        body.pop("objective_weights", None)
    if path == "/v1/detokenize":
        body["tokens"] = [token % 4096 for token in body.get("tokens", []) if isinstance(token, int)]
    if path.endswith("/comparisons"):
        body = {"rewards_chosen": SHORT, "rewards_rejected": LONG}
    if path.endswith("/comparisons/next"):
        body = {"candidate_rewards": [SHORT, LONG]}
    if path == "/v1/profiles/{id}":
        body = {"objective_weights": {"brevity": 0.5, "detail": 0.5}}
    return body


@schemathesis.hook
def before_call(context, case, kwargs):
    generation = getattr(case.meta, "generation", None)
    sound = generation is not None and generation.mode.is_positive
    if sound and isinstance(case.body, dict) and next(turn) % 2 == 0:
        case.body = answerable(case.operation.label, case.body)
        if "/profiles/{id}" in case.operation.label:
            # but never the one that others compare answers of
            known = case.method in ("GET", "POST")
            case.path_parameters["id"] = "ada" if known else "grace"
        if case.headers:
            case.headers.pop("x-objective-weights", None)


@schemathesis.check
def chunks_conform(context, response, case):
    """Each event of a stream holds a chunk as documented, or an error; the last one is [DONE]."""
    if "text/event-stream" not in response.headers.get("content-type", [""])[0]:
        return
    document = case.operation.schema.raw_schema
    post = document["paths"][case.operation.path]["post"]
    event = post["responses"]["200"]["content"]["text/event-stream"]["schema"]
    chunk = next(kind for kind in event["properties"]["data"]["anyOf"] if "contentSchema" in kind)
    chunk = chunk["contentSchema"]
    validator = jsonschema_rs.Draft202012Validator(chunk | {"components": document["components"]})
    lines = [line for line in response.text.splitlines() if line and not line.startswith(":")]
    assert all(line.startswith("data: ") for line in lines), response.text
    data = [line.removeprefix("data: ") for line in lines]
    assert data[-1] == "[DONE]", response.text
    for text in data[:-1]:
        validator.validate(json.loads(text))
    seen["chunks of streams"] += len(data) - 1


@schemathesis.hook
def after_call(context, case, response):
    seen[f"{case.operation.label} {response.status_code}"] += 1


@atexit.register
def write():
    with open(os.environ["OPENAPI_STATUSES"], "w") as file:
        json.dump(dict(sorted(seen.items())), file, indent=1)
