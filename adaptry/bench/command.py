"""`adaptry bench`: measures a running server under mixed traffic."""

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

TIMEOUT_SECONDS = 300.0


def bench(
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            help="Request this reference; repeatable [default: all served adapters].",
            autocompletion=adapter_names,
        ),
    ] = None,
    requests: Annotated[int, typer.Option(min=1, help="How many in total.")] = 200,
    concurrency: Annotated[int, typer.Option(min=1, max=1000, help="How many at a time.")] = 8,
    zipf: Annotated[
        float,
        typer.Option(min=0, max=10, help="Skew: 0 requests all adapters equally, 1 is typical."),
    ] = 1.0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Per request.")] = 16,
    prompt: Annotated[str, typer.Option(help="The prompt of all requests.")] = "hello=",
    seed: Annotated[int, typer.Option(help="The same seed gives the same requests.")] = 0,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Send requests for many adapters to a running server; report hit ratio and times.

    Puts load on a server that others may use. Exits with 1 if a request failed.
    """
    plan = Plan(adapter or (), requests, concurrency, zipf, max_tokens, prompt, seed)
    report = asyncio.run(_run(server, plan))
    if as_json:
        show_json(report.as_json())
    else:
        show_report(report)
    if report.failed:
        raise CommandError(f"{report.failed} of {len(report.results)} requests failed")


async def _run(server: str, plan: Plan) -> Report:
    import httpx

    options = Options(server, os.environ.get(API_KEY) or None, TIMEOUT_SECONDS)
    limits = httpx.Limits(max_connections=plan.concurrency, keepalive_expiry=IDLE_SECONDS)
    async with httpx.AsyncClient(**{**options.client_arguments(), "limits": limits}) as http:
        if not plan.adapters:
            plan = replace(plan, adapters=await _served_adapters(http, options))
        traffic = Traffic(http, plan)
        with _progress_bar(traffic):
            seconds = await traffic.run()
    return Report(traffic.results, seconds)


async def _served_adapters(http: "httpx.AsyncClient", options: Options) -> list[str]:
    """The names of adapters whose default version is served."""
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
def _progress_bar(traffic: Traffic) -> Iterator[None]:
    """A progress bar, if standard error is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("requests", total=traffic.plan.requests)
        traffic.on_result = lambda: bar.advance(task)
        yield
