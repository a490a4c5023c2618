"""`adaptry bench`: how a running server does under mixed traffic."""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from adaptry.bench.report import Report, show_report
from adaptry.bench.traffic import Plan, Traffic
from adaptry.client.transport.http import IDLE_SECONDS, Options, parse_success
from adaptry.terminal.completion import adapter_names
from adaptry.terminal.errors import CommandError
from adaptry.terminal.options import API_KEY, DEFAULT_SERVER, AsJson, Server
from adaptry.terminal.output import show_json

if TYPE_CHECKING:
    import httpx

PATIENCE_SECONDS = 300.0


def bench(
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            help="Ask for this reference; repeatable [all adapters that are served].",
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
    plan = Plan(adapter or (), requests, concurrency, zipf, max_tokens, prompt, seed)
    report = asyncio.run(_driven(server, plan))
    if as_json:
        show_json(report.as_json())
    else:
        show_report(report)
    if report.failed:
        raise CommandError(f"{report.failed} of {len(report.answers)} requests failed")


async def _driven(server: str, plan: Plan) -> Report:
    import httpx

    options = Options(server, os.environ.get(API_KEY) or None, PATIENCE_SECONDS)
    limits = httpx.Limits(max_connections=plan.concurrency, keepalive_expiry=IDLE_SECONDS)
    async with httpx.AsyncClient(**{**options.client_arguments(), "limits": limits}) as http:
        if not plan.adapters:
            plan = replace(plan, adapters=await _served(http, options))
        traffic = Traffic(http, plan)
        with _watched(traffic):
            seconds = await traffic.run()
    return Report(traffic.answers, seconds)


async def _served(http: "httpx.AsyncClient", options: Options) -> list[str]:
    """Adapters by name, those whose default version is served."""
    import httpx

    try:
        response = await http.get("/v1/models")
    except httpx.TransportError as error:
        raise options.no_answer(error) from error
    models = parse_success(response).content.get("data", ())
    names = [model["id"] for model in models if model.get("parent") and "@" not in model["id"]]
    if not names:
        raise CommandError("this server serves no adapters: see `adaptry adapter add`")
    return names


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
