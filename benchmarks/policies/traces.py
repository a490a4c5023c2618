"""Traces of the comparison of eviction policies: who asks for which adapter, in order, by a seed.

Each is a list of adapters, numbered from 1. The times of arrival are given to it later.
"""

import itertools
import math
import random
from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from functools import partial

Draw = Callable[[], int]


def zipf(chance: random.Random, adapters: int, skew: float, first: int = 1) -> Draw:
    """The adapter of rank r is drawn 1/r^skew as often as the first; 0: all alike."""
    sums = list(itertools.accumulate(1 / rank**skew for rank in range(1, adapters + 1)))
    return lambda: first + bisect(sums, chance.random() * sums[-1])


def independent(chance: random.Random, adapters: int, skew: float) -> Iterator[int]:
    draw = zipf(chance, adapters, skew)
    while True:
        yield draw()


def one_hit_wonders(chance: random.Random, share: float) -> Iterator[int]:
    """That share of the requests is for adapters that are not requested again."""
    draw, fresh = zipf(chance, 128, 1.0), itertools.count(1000)
    while True:
        yield next(fresh) if chance.random() < share else draw()


def scans(chance: random.Random, every: int, length: int) -> Iterator[int]:
    """A client tests all adapters, one after another, now and then."""
    draw = zipf(chance, 64, 1.0)
    while True:
        yield from (draw() for _ in range(every))
        yield from range(65, 65 + length)


def loop(adapters: int, noise: float, chance: random.Random) -> Iterator[int]:
    """The same ones in turn: LRU evicts each just before its use."""
    draw = zipf(chance, 64, 1.0, first=adapters + 1)
    for turn in itertools.cycle(range(1, adapters + 1)):
        while chance.random() < noise:
            yield draw()
        yield turn


def sessions(chance: random.Random, adapters: int, live: int, turns: float) -> Iterator[int]:
    """Conversations of some turns, so many at a time, each with its adapter."""
    draw = zipf(chance, adapters, 0.6)
    talking = [draw() for _ in range(live)]
    while True:
        at = chance.randrange(live)
        yield talking[at]
        if chance.random() < 1 / turns:
            talking[at] = draw()


def bursts(chance: random.Random, adapters: int, skew: float, length: float) -> Iterator[int]:
    """One adapter's requests come together, with others between them."""
    draw = zipf(chance, adapters, skew)
    while True:
        burst = draw()
        for _ in range(1 + int(chance.expovariate(1 / length))):
            yield burst
            if chance.random() < 0.3:
                yield draw()


def drift(chance: random.Random, adapters: int, skew: float, every: int) -> Iterator[int]:
    """Popularity shifts: the ranks move on by one, again and again."""
    draw = zipf(chance, adapters, skew)
    for number in itertools.count():
        yield 1 + (draw() + number // every) % adapters


def diurnal(chance: random.Random, period: int) -> Iterator[int]:
    """One set of adapters by day, another by night, both at dawn and dusk."""
    day, night = zipf(chance, 48, 1.0), zipf(chance, 48, 1.0, first=101)
    for number in itertools.count():
        share = 0.5 + 0.5 * math.sin(2 * math.pi * number / period)
        yield day() if chance.random() < share else night()


def tenants(chance: random.Random, number: int, active: int, stay: int) -> Iterator[int]:
    """A few tenants are active at a time, each with five adapters of its own."""
    draws = [zipf(chance, 5, 1.0, first=1 + 5 * tenant) for tenant in range(number)]
    of_all = zipf(chance, number, 0.8, first=0)
    present = [of_all() for _ in range(active)]
    while True:
        yield draws[chance.choice(present)]()
        if chance.random() < 1 / stay:
            present[chance.randrange(active)] = of_all()


def releases(chance: random.Random, every: int) -> Iterator[int]:
    """New adapters come out, are used most at first, and are forgotten."""
    for number in itertools.count():
        newest = 64 + number // every
        yield max(1, newest - int(chance.expovariate(1 / 10)))


def flash_crowd(chance: random.Random, every: int, length: int) -> Iterator[int]:
    """Now and then half of all requests are for one that was cold before."""
    draw, crowd = zipf(chance, 128, 0.9), 0
    for number in itertools.count():
        if number % every == 0:
            crowd = 200 + chance.randrange(100)
        yield crowd if number % every < length and chance.random() < 0.5 else draw()


def pipelines(chance: random.Random, steps: int) -> Iterator[int]:
    """Each job asks for the adapters of its steps, one after another; several run at a time."""
    draw = zipf(chance, 20, 0.9, first=0)
    running = [[draw(), step] for step in range(steps)]
    while True:
        job = chance.choice(running)
        yield 1 + steps * job[0] + job[1]
        job[1] += 1
        if job[1] == steps:
            job[:] = [draw(), 0]


def mixed(chance: random.Random, parts: Sequence[Iterator[int]]) -> Iterator[int]:
    """Several kinds of clients at once, each with adapters of its own."""
    while True:
        at = chance.randrange(len(parts))
        yield next(parts[at]) + 1000 * at


Generator = Callable[[random.Random], Iterator[int]]


def _all_together(chance: random.Random) -> Iterator[int]:
    parts = [
        independent(chance, 64, 1.0),
        sessions(chance, 128, 6, 8.0),
        loop(10, 0.0, chance),
        releases(chance, 200),
    ]
    return mixed(chance, parts)


GENERATORS: dict[str, Generator] = {
    "uniform, 200": partial(independent, adapters=200, skew=0.0),
    "Zipf 0.7, 256": partial(independent, adapters=256, skew=0.7),
    "Zipf 1.0, 144": partial(independent, adapters=144, skew=1.0),
    "Zipf 1.0, 512": partial(independent, adapters=512, skew=1.0),
    "Zipf 1.2, 512": partial(independent, adapters=512, skew=1.2),
    "Zipf 1.5, 512": partial(independent, adapters=512, skew=1.5),
    "one-hit wonders": partial(one_hit_wonders, share=0.15),
    "scans": partial(scans, every=400, length=100),
    "loop of 12": lambda chance: loop(12, 0.0, chance),
    "loop of 40 in noise": lambda chance: loop(40, 0.4, chance),
    "sessions": partial(sessions, adapters=512, live=12, turns=8.0),
    "many sessions": partial(sessions, adapters=512, live=40, turns=12.0),
    "bursts": partial(bursts, adapters=256, skew=0.8, length=6.0),
    "long bursts": partial(bursts, adapters=256, skew=0.5, length=30.0),
    "shifting Zipf": partial(drift, adapters=512, skew=1.0, every=40),
    "fast shifting Zipf": partial(drift, adapters=256, skew=1.2, every=10),
    "day and night": partial(diurnal, period=3000),
    "tenants": partial(tenants, number=60, active=6, stay=60),
    "many tenants": partial(tenants, number=200, active=20, stay=200),
    "releases": partial(releases, every=100),
    "flash crowds": partial(flash_crowd, every=1500, length=500),
    "pipelines": partial(pipelines, steps=4),
    "mixed": _all_together,
}


def generate(name: str, requests: int, seed: int) -> list[int]:
    """The first so many requests of the trace of that name."""
    return list(itertools.islice(GENERATORS[name](random.Random(seed)), requests))


def read_trace(text: str) -> list[int]:
    """One adapter a line, any name; a line that begins with # is none."""
    lines = [line.strip() for line in text.splitlines()]
    numbers = dict[str, int]()
    named = (line for line in lines if line and not line.startswith("#"))
    return [numbers.setdefault(name, len(numbers) + 1) for name in named]
