"""A crowd of streams while a policy's version changes under them.

Every client asks the same question again and again at temperature 0. None may be dropped; each
answer is told to be of one version and has, to the byte, the text that this version gives alone:
the old one where it began before the change was asked for, the new one where it was sent after
the change was told.
"""

import asyncio
import dataclasses
import time
import urllib.parse

from streams import chunks, text_of


@dataclasses.dataclass
class Answer:
    """One whole stream, with the times at which it was sent, began and ended."""

    which: int
    sent: float
    began: float
    ended: float
    version: str
    text: str


class Crowd:
    """Clients with a request each."""

    def __init__(self, url, requests):
        place = urllib.parse.urlsplit(url)
        self.address = (place.hostname, place.port)
        self.requests = requests

    async def ask(self, which):
        sent, began, versions, text = time.monotonic(), None, set(), ""
        async for chunk in chunks(self.address, self.requests[which]):
            began = began or time.monotonic()
            text += text_of(chunk)
            if "steering" in chunk:
                versions.add(chunk["steering"]["policy_version"])
        assert len(versions) == 1, f"one answer is told to be of {versions}"
        return Answer(which, sent, began, time.monotonic(), versions.pop(), text)

    async def alone(self):
        """The one version that answers now, and its text for each request, one after the other."""
        answers = [await self.ask(which) for which in range(len(self.requests))]
        versions = {answer.version for answer in answers}
        assert len(versions) == 1, versions
        return versions.pop(), [answer.text for answer in answers]

    async def during(self, change):
        """Lets `change` happen, once every client was answered under the old version; every client
        then asks until it has an answer to what it sent after the change. What `change` returned,
        when it was called and over, and all answers."""
        answers, met, told = [], [asyncio.Event() for _ in self.requests], []

        async def client(which):
            while True:
                answer = await self.ask(which)
                answers.append(answer)
                met[which].set()
                if told and answer.sent > told[0]:
                    return

        async def turn():
            for event in met:
                await event.wait()
            called = time.monotonic()
            returned = await asyncio.to_thread(change)
            told.append(time.monotonic())
            return returned, called

        clients = (client(which) for which in range(len(self.requests)))
        (returned, called), *_ = await asyncio.gather(turn(), *clients)
        return returned, called, told[0], answers


def held(answers, called, over, old, new):
    """Holds every answer against the two versions, `(version, texts)` each; tells how many were of
    which, and how many of the old one ended only after the new one was live."""
    counts = {"old": 0, "new": 0, "across": 0}
    texts = dict([old, new])
    for answer in answers:
        assert answer.version in texts, f"version {answer.version} is neither of {list(texts)}"
        told = texts[answer.version][answer.which]
        assert answer.text == told, f"mixed: request {answer.which} under {answer.version}"
        is_new = answer.version == new[0]
        assert not (is_new and answer.began < called), "it is new before the change"
        assert is_new or answer.sent < over, "it is old after the change"
        counts["new" if is_new else "old"] += 1
        counts["across"] += not is_new and answer.ended > over
    assert counts["across"] > 0, "no stream was running when the version changed"
    return counts
