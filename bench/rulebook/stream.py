"""A source plugin of ansible-rulebook: the stream of beside.py, put into the rulebook's queue as fast as it is taken
(`count`) or at a rate (`rate`). It is told apart from a real source only by where its events come from."""

import asyncio
import sys
import time
from typing import Any


async def main(queue: asyncio.Queue, args: dict[str, Any]) -> None:
    sys.path.insert(0, args["beside"])
    import story

    if args.get("only_crossings"):
        await only_crossings(queue, int(args["only_crossings"]), float(args["pause"]))
    elif args.get("rate"):
        await at_a_rate(queue, story.Paced(int(args["rate"])))
    else:
        await as_fast_as_taken(queue, story, int(args["warm"]), int(args["count"]))
    # the process is stopped from outside, once it has been looked at
    await asyncio.sleep(3600)


def event(deployment: str, value: float) -> dict[str, Any]:
    return {"deployment": deployment, "cpu_percent": value, "sent": 0}


async def as_fast_as_taken(queue, story, warm: int, count: int) -> None:
    for number in range(warm + count):
        if number == warm:
            await queue.put(event("begins", story.HIGH))
        await queue.put(event(*story.sample(number)))
    await queue.put(event("ends", story.HIGH))


async def at_a_rate(queue, paced) -> None:
    await queue.put(event("begins", 99.0))
    await asyncio.sleep(1)
    began = time.monotonic()
    for due, samples in paced.ticks():
        await asyncio.sleep(max(0.0, began + due - time.monotonic()))
        sent = time.monotonic()
        for deployment, value in samples:
            await queue.put({"deployment": deployment, "cpu_percent": value, "sent": sent})


async def only_crossings(queue, count: int, pause: float) -> None:
    for number in range(count):
        await asyncio.sleep(pause)
        print(f"SENT run-{number} {time.monotonic()}", flush=True)
        await queue.put(event(f"run-{number}", 99.0))
