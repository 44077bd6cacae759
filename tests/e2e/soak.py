"""Many streams at once, some of which go away half-way. All others must be whole and equal their
lone runs byte for byte; afterwards blocks, open files and threads are where they began, and memory
did not grow.

usage: soak.py [SECONDS] [STREAMS]      (the server is that of the variable STEERSMAN)
"""

import asyncio
import contextlib
import pathlib
import random
import statistics
import sys
import time
import urllib.parse
import urllib.request

from servers import Server
from streams import chunks, text_of

QUESTIONS = ["What is the capital of {}?", "How many people live in {}?", "Tell me about {}."]
COUNTRIES = ["France", "Kenya", "Japan", "Egypt", "Peru", "Norway", "Chad", "Laos"]
SHARE_LEAVING = 0.3
# What the allocator may keep more of in the last quarter of the time than in the third.
MOST_GROWTH_MIB = 4.0


def requests():
    """Distinct requests: questions, weights and seeds all differ."""
    made = []
    for number, country in enumerate(COUNTRIES * len(QUESTIONS)):
        brevity = (number % 11) / 10
        made.append(
            {
                "messages": [
                    {"role": "user", "content": QUESTIONS[number % len(QUESTIONS)].format(country)}
                ],
                "objective_weights": {"brevity": brevity, "detail": round(1 - brevity, 1)},
                "temperature": 0.9,
                "max_tokens": 40 + number * 3,
                "seed": number,
            }
        )
    return made


async def stream(address, request, leave_after=None):
    """The text of an answer and the number of its pieces; None once it has left half-way."""
    text, pieces = "", 0
    async with contextlib.aclosing(chunks(address, request)) as answer:
        async for chunk in answer:
            text += text_of(chunk)
            pieces += 1
            if leave_after is not None and pieces > leave_after:
                return None, pieces
    return text, pieces


class Watch:
    """What the server holds, as the system and its own metrics tell."""

    def __init__(self, server):
        self.process = pathlib.Path("/proc", str(server.process.pid))
        self.url = server.url

    def memory_mib(self):
        pages = int((self.process / "statm").read_text().split()[1])
        return pages * 4096 / 2**20

    def held(self):
        status = (self.process / "status").read_text()
        threads = next(line for line in status.splitlines() if line.startswith("Threads"))
        files = [self.target(file) for file in (self.process / "fd").iterdir()]
        sockets = sum(file.startswith("socket:") for file in files)
        held = {"sockets": sockets, "files": len(files), "threads": int(threads.split()[1])}
        return held | self.gauges()

    def target(self, file):
        try:
            return str(file.readlink())
        except FileNotFoundError:  # closed meanwhile
            return ""

    def gauges(self):
        """Blocks in use, requests and connections; empty for a server without metrics."""
        try:
            with urllib.request.urlopen(f"{self.url}/metrics") as reply:
                lines = reply.read().decode().splitlines()
        except urllib.error.HTTPError:
            return {}
        wanted = ("steersman_requests_running", "steersman_requests_waiting", "steersman_kv_cache")
        lines = [line for line in lines if line.startswith(wanted)]
        # cached blocks are free for whoever needs them, so only those in use count
        lines = [line for line in lines if "cached" not in line and 'state="free"' not in line]
        return dict(line.rsplit(" ", 1) for line in lines)


async def soak(address, watch, seconds, streams):
    asked = requests()
    idle = watch.held()["sockets"]
    lone = [await stream(address, request) for request in asked]
    assert lone == [await stream(address, request) for request in asked], "alone it differs"
    # pools of threads and of database connections grow to their bounds under the first crowd
    crowd = [stream(address, asked[number % len(asked)]) for number in range(2 * streams)]
    await asyncio.gather(*crowd)
    before = await settled(watch, lambda held: held["sockets"] == idle)
    ends = time.monotonic() + seconds
    counts = {"whole": 0, "left": 0}
    memory = []

    async def client(seed):
        rng = random.Random(seed)
        while time.monotonic() < ends:
            which = rng.randrange(len(asked))
            leaves = rng.random() < SHARE_LEAVING
            most = lone[which][1]
            leave_after = rng.randrange(most) if leaves else None
            text, _ = await stream(address, asked[which], leave_after)
            if text is None:
                counts["left"] += 1
                continue
            assert text == lone[which][0], (which, text, lone[which][0])
            counts["whole"] += 1

    async def sample():
        while time.monotonic() < ends:
            memory.append(watch.memory_mib())
            await asyncio.sleep(seconds / 120)

    await asyncio.gather(sample(), *(client(seed) for seed in range(streams)))
    return before, counts, memory


async def settled(watch, at_rest):
    """What is held once nothing runs; waits for sockets and idle threads to go."""
    for _ in range(200):
        held = watch.held()
        if at_rest(held):
            break
        await asyncio.sleep(0.1)
    return held


async def main():
    seconds, streams = (int(word) for word in (sys.argv[1:] + ["20", "64"][len(sys.argv) - 1 :])[:2])
    with Server() as server:
        place = urllib.parse.urlsplit(server.url)
        watch = Watch(server)
        address = (place.hostname, place.port)
        before, counts, memory = await soak(address, watch, seconds, streams)
        rest = {name: before[name] for name in before if name not in ("files", "threads")}

        def at_rest(held):
            # idle threads and database connections may have gone, but none may have come
            fewer = held["files"] <= before["files"] and held["threads"] <= before["threads"]
            return fewer and all(held[name] == rest[name] for name in rest)

        after = await settled(watch, at_rest)
        assert at_rest(after), f"held before {before}, after {after}"
        assert "panicked" not in server.log(), server.log()
    # the cache of keys and values is touched block by block as it is first filled, so the first
    # half may grow, up to the size of that cache
    quarter = len(memory) // 4
    third, last = memory[2 * quarter : 3 * quarter], memory[3 * quarter :]
    growth = statistics.median(last) - statistics.median(third)
    assert growth <= MOST_GROWTH_MIB, f"{growth:.1f} MiB more: {memory}"
    assert counts["whole"] > streams and counts["left"] > streams // 4, counts
    told = "" if len(after) > 2 else " (no metrics: blocks were not looked at)"
    print(
        f"{seconds} s, {streams} streams at once: {counts['whole']} whole and equal to their lone "
        f"runs, {counts['left']} left half-way; held {after}{told}; memory "
        f"{min(memory):.0f}-{max(memory):.0f} MiB, {growth:+.1f} MiB from the third quarter to the last"
    )


asyncio.run(main())
