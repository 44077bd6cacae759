"""A clock held against the prefix cache: what one key's callers asked can be told by that key alone,
not by the time to the first token of anybody else's same prompt.

Prompts that the owner asked before and fresh ones are timed by turns. The measure is the area under
the curve of whoever calls the shorter times known: 0.5 is a guess, 1 certain. A disturbance of the
machine may tip one look; a leak tips every one, so three may be taken.

usage: tenants.py      (the server is that of the variable STEERSMAN)
"""

import bisect
import http.client
import json
import time
import urllib.parse

from servers import Server

# As many as tell: with so many a guess stays within 0.05 of the half, 999 times of 1000.
FEW, MANY = 60, 700
MOST_OF_A_STRANGER, LEAST_OF_THE_OWNER = 0.55, 0.9
LOOKS = 3


class Asker:
    """A client with a key, on one connection."""

    def __init__(self, url, key):
        place = urllib.parse.urlsplit(url)
        self.connection = http.client.HTTPConnection(place.hostname, place.port)
        self.headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}

    def seconds(self, prompt):
        """How long one token took."""
        body = json.dumps({"prompt": prompt, "max_tokens": 1, "ignore_eos": True, "seed": 1})
        started = time.perf_counter()
        self.connection.request("POST", "/v1/generate", body, self.headers)
        reply = self.connection.getresponse()
        text = reply.read()
        took = time.perf_counter() - started
        assert reply.status == 200, text
        return took


def area(known, fresh):
    """The chance that a fresh prompt takes longer than a known one; ties are half of one."""
    fresh = sorted(fresh)
    wins = 0.0
    for one in known:
        below, upto = bisect.bisect_left(fresh, one), bisect.bisect_right(fresh, one)
        wins += len(fresh) - upto + (upto - below) / 2
    return wins / (len(known) * len(fresh))


def told_apart(owner, asker, rounds, look):
    times = {"old": [], "new": []}
    asker.seconds("x")  # what all prompts begin with: the asker has it cached from here on
    for number in range(rounds):

        def prompt(which):
            # the first words differ, so that no block of one is a block of another
            return f"{look} {number} {which} of {rounds} " + "so it goes " * 30

        owner.seconds(prompt("old"))
        for which in ("old", "new") if number % 2 else ("new", "old"):
            times[which].append(asker.seconds(prompt(which)))
    return area(times["old"], times["new"])


def main():
    with Server(keys={"owner": [], "stranger": []}) as server:
        owner, again, stranger = (
            Asker(server.url, server.keys[name]) for name in ("owner", "owner", "stranger")
        )
        own = told_apart(owner, again, FEW, "own")
        assert own >= LEAST_OF_THE_OWNER, f"within a key the cache must show: {own:.3f}"
        looks = []
        for look in range(LOOKS):
            looks.append(told_apart(owner, stranger, MANY, look))
            if looks[-1] <= MOST_OF_A_STRANGER:
                break
        told = ", ".join(f"{area:.3f}" for area in looks)
        assert looks[-1] <= MOST_OF_A_STRANGER, f"a stranger tells known prompts by {told}"
        print(f"tenants: known prompts told by their times: {own:.3f} by their key, {told} by another")


main()
