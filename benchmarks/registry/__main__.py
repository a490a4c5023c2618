"""Registry benchmark: 100,000 versions of 20,000 adapters on SQLite and PostgreSQL, in one table.

    .venv/bin/python -m benchmarks.registry

fills its databases in a folder under --folder (on a real disk, as fsync counts), measures, and
removes them. `--only resolve writes` measures these parts, `--on sqlite` this database.
"""

import argparse
import asyncio
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from benchmarks.common.tables import machine, print_table
from benchmarks.registry import resolve as registry_resolve
from benchmarks.registry.hashing import hashing
from benchmarks.registry.pages import MANY, NEVER, page_ms
from benchmarks.registry.process import started
from benchmarks.registry.rows import open_filled
from benchmarks.registry.targets import Figures, judge, medians
from benchmarks.registry.writes import registrations
from registry.database.engine import Database
from tests.support.databases.postgres import PostgresServer, binaries

KINDS = ("sqlite", "postgresql")
STARTS = 5


@dataclass(frozen=True)
class Place:
    """A database with its rows, and a folder on the same disk."""

    url: str
    folder: Path


async def start(place: Place) -> Figures:
    """From the start of the process: open the database, check migrations, serve a list."""
    seconds = []
    for _ in range(STARTS):
        async with started(place.url, place.folder / "start") as (_, taken):
            seconds.append(taken)
    return {"start, s": statistics.median(seconds)}


async def http(place: Place) -> Figures:
    return await registry_resolve.over_http(place.url, place.folder / "http")


async def resolve(place: Place) -> Figures:
    async with open_place(place) as database:
        return await registry_resolve.in_process(database)


async def pages(place: Place) -> Figures:
    async with open_place(place) as database:
        found = await page_ms(database)
    never = max(found.pop(name) for name in list(found) if NEVER in name)
    many = max(found.pop(name) for name in list(found) if any(m in name for m in MANY))
    return {
        "list page, median kind, ms": statistics.median(found.values()),
        "list page, slowest of up to two conditions, ms": max(found.values()),
        "list page, slowest of more conditions, ms": many,
        "list page, two words that are never together, ms": never,
    }


async def writes(place: Place) -> Figures:
    async with open_place(place) as database:
        figures = await registrations(database, place.folder)
    return {**figures, "one fsync, ms": fsync_ms(place.folder)}


async def hash_files(place: Place) -> Figures:
    return await asyncio.to_thread(hashing, place.folder)


# Each part measures one thing on one database; those that add rows come last.
PARTS: dict[str, Callable[[Place], Awaitable[Figures]]] = {
    "start": start,
    "pages": pages,
    "resolve": resolve,
    "http": http,
    "hashing": hash_files,
    "writes": writes,
}


@asynccontextmanager
async def open_place(place: Place) -> AsyncIterator[Database]:
    database = Database(place.url)
    try:
        yield database
    finally:
        await database.close()


def fsync_ms(folder: Path) -> float:
    """Appending a page to a file: the lower bound of a durable commit."""
    seconds = []
    with (folder / "fsync").open("wb", buffering=0) as file:
        for _ in range(100):
            file.write(bytes(4096))
            began = time.perf_counter()
            os.fsync(file.fileno())
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds) * 1000


# ---- the databases ------------------------------------------------------------------------


@contextmanager
def databases(kinds: list[str], folder: Path) -> Iterator[dict[str, str]]:
    """URLs by kind. PostgreSQL is started privately, from Debian's package, with fsync."""
    urls = {"sqlite": f"sqlite:///{folder}/registry.db"}
    if "postgresql" not in kinds:
        yield urls
        return
    programs = binaries()
    if programs is None:
        raise SystemExit("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    server = PostgresServer(programs, parent=folder)
    try:
        server.start(options="")
        server.sql("CREATE DATABASE registry")
        yield {**urls, "postgresql": server.url("registry")}
    finally:
        server.remove()


async def measure(url: str, folder: Path, parts: list[str], rounds: int) -> Figures:
    """Medians of each part's rounds."""
    folder.mkdir(parents=True, exist_ok=True)
    await (await open_filled(url)).close()
    figures: Figures = {}
    for part in parts:
        taken = []
        for number in range(rounds):
            place = Place(url, folder / f"{part}-{number}")
            place.folder.mkdir()
            taken.append(await PARTS[part](place))
            shutil.rmtree(place.folder)
        figures |= medians(taken)
    return figures


def run(arguments: argparse.Namespace, folder: Path) -> None:
    measured: dict[str, Figures] = {}
    before = os.getloadavg()[0]
    with databases(arguments.on, folder) as urls:
        for kind in arguments.on:
            work = measure(urls[kind], folder / kind, arguments.only, arguments.rounds)
            with asyncio.Runner(loop_factory=uvicorn.Config("").get_loop_factory()) as runner:
                measured[kind] = runner.run(work)
    loads = {"load before": before, "load after": os.getloadavg()[0]}
    if arguments.json:
        print(json.dumps({"machine": machine(), **loads, "figures": measured}, indent=1))
        return
    print(machine(), "".join(f", {name} {load:.1f}" for name, load in loads.items()), sep="")
    print_table(judge(measured))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--on", nargs="+", choices=KINDS, default=list(KINDS), metavar="DATABASE")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--rounds", type=int, default=3, help="of each part; medians are shown")
    parser.add_argument("--folder", type=Path, help="on the disk to be measured")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="adaptry-benchmark-", dir=arguments.folder))
    folder.chmod(0o755)  # PostgreSQL runs as another user
    try:
        run(arguments, folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
