"""The official `openai` client against a running server: chat, stream, weights, typed errors."""

import sys

import openai

url = sys.argv[1]
client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
question = [{"role": "user", "content": "What is the capital of France?"}]


def chat(**options):
    options = {"model": "default", "messages": question, "temperature": 0} | options
    return client.chat.completions.create(**options)


models = [model.id for model in client.models.list()]
assert models, "no model is listed"

brief = chat(extra_body={"objective_weights": {"brevity": 1.0}})
assert brief.choices[0].message.content, brief
assert brief.usage.completion_tokens > 0, brief.usage
assert brief.steering["weights"]["brevity"] == 1.0, brief.steering
assert brief.usage.steering["policy_version"] == brief.steering["policy_version"]

detailed = chat(extra_headers={"x-objective-weights": "detail=1"})
assert detailed.steering["source"] == "header", detailed.steering
assert detailed.steering["weights"] != brief.steering["weights"], detailed.steering
assert len(detailed.choices[0].message.content) > len(brief.choices[0].message.content), brief

stream = chat(
    stream=True,
    stream_options={"include_usage": True},
    extra_body={"objective_weights": {"detail": 1.0}},
)
text, usage = "", None
for chunk in stream:
    for choice in chunk.choices:
        text += choice.delta.content or ""
    usage = chunk.usage or usage
assert text == detailed.choices[0].message.content, (text, detailed)
assert usage and usage.total_tokens == detailed.usage.total_tokens, usage


def refused(kind, code, **options):
    try:
        chat(**options)
    except kind as error:
        assert error.code == code, (error.code, code)
        return
    raise AssertionError(f"expected {kind.__name__} ({code})")


refused(openai.BadRequestError, "unknown_objective", extra_body={"objective_weights": {"wit": 1}})
refused(
    openai.BadRequestError,
    "objective_weight_out_of_range",
    extra_body={"objective_weights": {"brevity": -1}},
)
refused(
    openai.BadRequestError,
    "context_length_exceeded",
    messages=[{"role": "user", "content": "word " * 4000}],
)
refused(openai.NotFoundError, "model_not_found", model="nobody")
print(f"openai {openai.__version__}: chat, stream, weights and errors as expected ({models})")
