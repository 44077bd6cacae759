"""Three clients people have, each asked in its own way, behind one shape.

`chat` answers whole, `stream` in pieces; both take a server's address, a key, and fields of
OpenAI's request, `extra_body` and `extra_headers` included; `heard` is called at every piece. `raises` says which exception a client
promises for a status.
"""

import os
from dataclasses import dataclass

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it would fetch prices at its import

import langchain_openai
import litellm
import openai
from langchain_openai.chat_models.base import OpenAIContextOverflowError

litellm.suppress_debug_info = True

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
DEFAULTS = {"model": "default", "messages": QUESTION, "temperature": 0}


@dataclass
class Answer:
    text: str
    prompt_tokens: int
    completion_tokens: int
    steering: dict | None


class OpenAI:
    """The official client."""

    name = f"openai {openai.__version__}"
    raises = {
        400: openai.BadRequestError,
        401: openai.AuthenticationError,
        403: openai.PermissionDeniedError,
        404: openai.NotFoundError,
        409: openai.ConflictError,
        413: openai.APIStatusError,
        415: openai.APIStatusError,
        429: openai.RateLimitError,
        503: openai.InternalServerError,
        504: openai.InternalServerError,
    }
    broken_stream = openai.APIError
    tells_code = True

    def client(self, url, key):
        return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)

    def chat(self, url, key="none", **request):
        whole = self.client(url, key).chat.completions.create(**DEFAULTS | request)
        usage = whole.usage
        return Answer(
            whole.choices[0].message.content,
            usage.prompt_tokens,
            usage.completion_tokens,
            getattr(whole, "steering", None),
        )

    def stream(self, url, key="none", heard=lambda: None, **request):
        request = DEFAULTS | {"stream_options": {"include_usage": True}} | request
        text, usage, steering = "", None, None
        for chunk in self.client(url, key).chat.completions.create(stream=True, **request):
            heard()
            text += "".join(choice.delta.content or "" for choice in chunk.choices)
            usage = chunk.usage or usage
            steering = getattr(chunk, "steering", None) or steering
        return Answer(text, usage.prompt_tokens, usage.completion_tokens, steering)


class LangChain(OpenAI):
    """`ChatOpenAI`; it raises the official client's exceptions, and some of its own below them."""

    name = "langchain-openai"
    by_code = {"context_length_exceeded": OpenAIContextOverflowError}

    def model(self, url, key, request):
        request = DEFAULTS | request
        messages = request.pop("messages")
        if "extra_headers" in request:
            request["default_headers"] = request.pop("extra_headers")
        own = {"base_url": f"{url}/v1", "api_key": key, "max_retries": 0, "stream_usage": True}
        return langchain_openai.ChatOpenAI(**own | request), messages

    def chat(self, url, key="none", **request):
        model, messages = self.model(url, key, request)
        reply = model.invoke(messages)
        usage = reply.usage_metadata
        # of the reply's own fields LangChain keeps those inside `usage`
        steering = reply.response_metadata["token_usage"].get("steering")
        return Answer(reply.content, usage["input_tokens"], usage["output_tokens"], steering)

    def stream(self, url, key="none", heard=lambda: None, **request):
        model, messages = self.model(url, key, request)
        whole = None
        for chunk in model.stream(messages):
            heard()
            whole = chunk if whole is None else whole + chunk
        usage = whole.usage_metadata
        return Answer(whole.content, usage["input_tokens"], usage["output_tokens"], None)


class LiteLLM:
    """`litellm.completion` with the provider `openai`; its exceptions are named after OpenAI's,
    and fold some statuses into others."""

    name = "litellm"
    raises = {
        400: litellm.BadRequestError,
        401: litellm.AuthenticationError,
        403: litellm.APIError,
        404: litellm.NotFoundError,
        413: litellm.BadRequestError,
        415: litellm.BadRequestError,
        429: litellm.RateLimitError,
        503: litellm.ServiceUnavailableError,
        504: litellm.Timeout,
    }
    by_code = {"context_length_exceeded": litellm.ContextWindowExceededError}
    broken_stream = openai.APIError
    tells_code = False  # of some kinds, it keeps the server's sentence alone

    def completion(self, url, key, request):
        request = DEFAULTS | request
        request["model"] = "openai/" + request["model"]
        own = {"api_base": f"{url}/v1", "api_key": key, "max_retries": 0, "num_retries": 0}
        return litellm.completion(**own | request)

    def chat(self, url, key="none", **request):
        whole = self.completion(url, key, request)
        return Answer(
            whole.choices[0].message.content,
            whole.usage.prompt_tokens,
            whole.usage.completion_tokens,
            getattr(whole, "steering", None),
        )

    def stream(self, url, key="none", heard=lambda: None, **request):
        streamed = {"stream": True, "stream_options": {"include_usage": True}}
        text, usage = "", None
        for chunk in self.completion(url, key, streamed | request):
            heard()
            text += "".join(choice.delta.content or "" for choice in chunk.choices)
            usage = getattr(chunk, "usage", None) or usage
        return Answer(text, usage.prompt_tokens, usage.completion_tokens, None)


ALL = [OpenAI(), LangChain(), LiteLLM()]
