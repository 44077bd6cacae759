"""The clients that people have against real servers: chat, stream, usage, weights by every way in,
and the right typed exception for each row of the error table.

Two rows are not here. 500: nothing that a client can send makes the engine fail (the tests of the
sources hold its shape). 409: no generating route answers it, so only the official client, which
can PUT, is asked.
"""

import contextlib
import http.client
import json
import sqlite3
import time
import urllib.parse

import openai
from adapters import ALL, OpenAI
from servers import Server

BRIEF, DETAILED = {"brevity": 1.0}, {"detail": 1.0}


def answers(client, url):
    """Chat, stream, usage, and weights by body, header and model name."""
    brief = client.chat(url, extra_body={"objective_weights": BRIEF})
    assert brief.text and brief.prompt_tokens > 0 and brief.completion_tokens > 0, brief
    assert brief.steering["weights"]["brevity"] == 1.0, brief
    assert brief.steering["source"] == "body", brief
    detailed = client.chat(url, extra_headers={"x-objective-weights": "detail=1"})
    assert detailed.steering["source"] == "header", detailed
    assert len(detailed.text) > len(brief.text), (brief, detailed)
    mixed = client.chat(url, model="facts@brevity=0.7,detail=0.3")
    assert mixed.steering["source"] == "model", mixed
    assert mixed.steering["weights"] == {"brevity": 0.7, "detail": 0.3}, mixed
    streamed = client.stream(url, extra_body={"objective_weights": DETAILED})
    assert streamed.text == detailed.text, (streamed, detailed)
    assert streamed.completion_tokens == detailed.completion_tokens, (streamed, detailed)


def refused(client, status, code, url, key="none", ask=None, **request):
    """The client raises what it promises for this status, and tells the code."""
    expected = getattr(client, "by_code", {}).get(code) or client.raises[status]
    try:
        (ask or client.chat)(url, key, **request)
    except expected as error:
        told = getattr(error, "code", None)
        assert told == code or (not client.tells_code and told in (None, str(status))), (told, error)
        assert getattr(error, "status_code", status) == status, (status, error)
        assert (error.body or {}).get("message", "") in str(error), error
        return error
    except Exception as error:
        raise AssertionError(f"{client.name}: {status} {code}: {type(error)}: {error}") from error
    raise AssertionError(f"{client.name}: {status} {code}: was answered")


def bad_requests(client, url):
    def row(status, code, **request):
        refused(client, status, code, url, **request)

    row(400, "invalid_value", temperature=2.5)
    row(400, "unknown_objective", extra_body={"objective_weights": {"wit": 1}})
    row(400, "objective_weight_out_of_range", extra_body={"objective_weights": {"brevity": -1}})
    row(
        400,
        "objective_conflict",
        extra_body={"objective_weights": BRIEF},
        extra_headers={"x-objective-weights": "detail=1"},
    )
    long = [{"role": "user", "content": "word " * 4000}]
    row(400, "context_length_exceeded", messages=long)
    row(404, "model_not_found", model="nobody")
    row(404, "profile_not_found", extra_body={"profile": "nobody"})
    row(413, "body_too_large", messages=[{"role": "user", "content": "word " * 500_000}])
    row(415, "unsupported_media_type", extra_headers={"Content-Type": "text/plain"})


def keyed(client, server):
    def row(status, code, key, **request):
        return refused(client, status, code, server.url, key, **request)

    row(401, "invalid_api_key", "sk-steer-of-nobody")
    row(403, "scope_required", server.keys["profiles"])
    row(
        403,
        "objective_weight_forbidden",
        server.keys["bounded"],
        extra_body={"objective_weights": BRIEF},
    )
    error = row(429, "rate_limit_exceeded", server.keys["limited"])
    if client.tells_code:
        assert int(error.response.headers["retry-after"]) > 0, error.response.headers
    assert client.chat(server.url, server.keys["bounded"], model="facts@detail=1").text


def conflict(server):
    """Two writers of one profile: the second one is told, and does not try again by itself."""
    client = OpenAI()
    own = client.client(server.url, server.keys["full"])

    def put(_url, _key, **body):
        return own.put("/profiles/cautious", body=body, cast_to=object)

    put(None, None, objective_weights=BRIEF)
    stale = {"objective_weights": DETAILED, "expected_version": 7}
    error = refused(client, 409, "generation_mismatch", server.url, ask=put, **stale)
    assert error.response.headers["x-should-retry"] == "false", error.response.headers


def without_its_table(client, server):
    """The store fails under a running server."""
    profile = {"profile": "cautious"}
    refused(client, 503, "store_unavailable", server.url, server.keys["full"], extra_body=profile)


@contextlib.contextmanager
def renamed_table(server):
    database = next(path for path in server.data_dir.iterdir() if path.suffix in (".db", ".sqlite"))
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("ALTER TABLE profiles RENAME TO profiles_away")
        connection.commit()
        yield
        connection.execute("ALTER TABLE profiles_away RENAME TO profiles")
        connection.commit()


@contextlib.contextmanager
def flood(url, prompts):
    """Keeps a server with one place busy for seconds: 16 long answers to each of some prompts."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc)
    body = {
        "prompt": [f"What is number {number}?" for number in range(prompts)],
        "n": 16,
        "max_tokens": 480,
        "ignore_eos": True,
        "stream": True,
    }
    headers = {"content-type": "application/json"}
    with contextlib.closing(connection):
        connection.request("POST", "/v1/completions", json.dumps(body), headers)
        reply = connection.getresponse()
        assert reply.status == 200, reply.read()
        yield
        reply.close()


def crowded():
    """A server with one place, which is taken: who finds no room to wait gets 429, who waits too
    long 504."""
    place = ("--max-sequences", "1")
    with Server(*place, "--queue-capacity", "47") as server, flood(server.url, prompts=3):
        for client in ALL:
            error = refused(client, 429, "queue_full", server.url)
            if client.tells_code:
                assert int(error.response.headers["retry-after"]) > 0, error.response.headers
    patience = ("--queue-capacity", "63", "--queue-seconds", "1")
    with Server(*place, *patience) as server, flood(server.url, prompts=3):
        for client in ALL:
            refused(client, 504, "queue_timeout", server.url)


def cut_off(client):
    """A stream that the server has to cut ends in an exception, never as if it were whole."""
    with Server("--drain-seconds", "0") as server:
        request = {"extra_body": {"ignore_eos": True, "min_tokens": 400}, "max_tokens": 400}
        try:
            answer = client.stream(server.url, heard=server.terminate, **request)
        except client.broken_stream as error:
            assert "shutting down" in str(error), error
            return
        raise AssertionError(f"{client.name} took a stream that was cut for whole: {answer}")


def main():
    started = time.monotonic()
    keys = {
        "full": ["--scope", "generate,profiles"],
        "profiles": ["--scope", "profiles"],
        "bounded": ["--weight-range", "detail=0.2..1"],
        "limited": ["--requests-per-minute", "1"],
    }
    with Server() as open_server:
        for client in ALL:
            answers(client, open_server.url)
            bad_requests(client, open_server.url)
    with Server(keys=keys) as server:
        OpenAI().chat(server.url, server.keys["limited"])
        conflict(server)
        for client in ALL:
            keyed(client, server)
        with renamed_table(server):
            for client in ALL:
                without_its_table(client, server)
    crowded()
    for client in ALL:
        cut_off(client)
    for client in ALL:
        print(f"{client.name}: as expected")
    print(f"{time.monotonic() - started:.0f} s")


main()
