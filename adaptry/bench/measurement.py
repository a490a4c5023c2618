"""Measurement of `adaptry bench`: sends the requests of a plan to a running server."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import httpx

from adaptry.bench.report import Report
from adaptry.bench.traffic import Plan, Traffic
from adaptry.client.transport.http import IDLE_SECONDS, Options, parse_success
from adaptry.terminal.errors import CommandError
from adaptry.terminal.options import API_KEY

TIMEOUT_SECONDS = 300.0


async def measure(server: str, plan: Plan) -> Report:
    """All requests of a plan, with a progress bar on a terminal."""
    options = Options(server, os.environ.get(API_KEY) or None, TIMEOUT_SECONDS)
    limits = httpx.Limits(max_connections=plan.concurrency, keepalive_expiry=IDLE_SECONDS)
    async with httpx.AsyncClient(**{**options.client_arguments(), "limits": limits}) as http:
        if not plan.adapters:
            plan = replace(plan, adapters=await _served_adapters(http, options))
        traffic = Traffic(http, plan)
        with _progress_bar(traffic):
            seconds = await traffic.run()
    return Report(traffic.results, seconds)


async def _served_adapters(http: httpx.AsyncClient, options: Options) -> list[str]:
    """The names of adapters whose default version is served."""
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
