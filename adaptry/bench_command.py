"""`adaptry bench`: how a running server does under mixed traffic."""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from adaptry.bench_report import Report, show_report
from adaptry.bench_traffic import Plan, Traffic
from adaptry.completion import adapter_names
from adaptry.errors import CommandError
from adaptry.options import API_KEY, DEFAULT_SERVER, AsJson, Server, connect
from adaptry.output import show_json
from registry.client.http import Options

PATIENCE_SECONDS = 300.0


def bench(
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            help="Ask for this one, name@alias or name:version too; repeatable [all there are].",
            autocompletion=adapter_names,
        ),
    ] = None,
    requests: Annotated[int, typer.Option(min=1, help="How many in all.")] = 200,
    concurrency: Annotated[int, typer.Option(min=1, max=1000, help="How many at a time.")] = 8,
    zipf: Annotated[
        float, typer.Option(min=0, max=10, help="How uneven: 0 asks for all alike, 1 is usual.")
    ] = 1.0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of each answer.")] = 16,
    prompt: Annotated[str, typer.Option(help="The same for all.")] = "hello=",
    seed: Annotated[int, typer.Option(help="The same seed asks in the same order.")] = 0,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Drive a running server with requests to many adapters; say hit ratio and times.

    Loads a server that others may use. Exits with 1 if a request failed.
    """
    adapters = adapter or _known(server)
    plan = Plan(adapters, requests, concurrency, zipf, max_tokens, prompt, seed)
    report = asyncio.run(_driven(server, plan))
    if as_json:
        show_json(report.as_json())
    else:
        show_report(report)
    if report.failed:
        raise CommandError(f"{report.failed} of {len(report.answers)} requests failed")


def _known(server: str) -> list[str]:
    with connect(server) as client:
        names = [adapter.name for adapter in client.adapters.list(page_size=500)]
    if not names:
        raise CommandError("this server has no adapters: register some, see `adaptry adapter add`")
    return names


async def _driven(server: str, plan: Plan) -> Report:
    import httpx

    options = Options(server, os.environ.get(API_KEY) or None, PATIENCE_SECONDS)
    limits = httpx.Limits(max_connections=plan.concurrency)
    async with httpx.AsyncClient(**options.for_httpx(), limits=limits) as http:
        traffic = Traffic(http, plan)
        with _watched(traffic):
            seconds = await traffic.run()
    return Report(traffic.answers, seconds)


@contextmanager
def _watched(traffic: Traffic) -> Iterator[None]:
    """A bar on a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("asking", total=traffic.plan.requests)
        traffic.told = lambda: bar.advance(task)
        yield
