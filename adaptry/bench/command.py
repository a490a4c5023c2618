"""`adaptry bench`: measures a running server under mixed traffic."""

from typing import Annotated

import typer

from adaptry.terminal.completion import adapter_names
from adaptry.terminal.errors import CommandError
from adaptry.terminal.options import DEFAULT_SERVER, AsJson, Server
from adaptry.terminal.output import show_json


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
    import asyncio

    from adaptry.bench.measurement import measure
    from adaptry.bench.report import show_report
    from adaptry.bench.traffic import Plan

    plan = Plan(adapter or (), requests, concurrency, zipf, max_tokens, prompt, seed)
    report = asyncio.run(measure(server, plan))
    if as_json:
        show_json(report.as_json())
    else:
        show_report(report)
    if report.failed:
        raise CommandError(f"{report.failed} of {len(report.results)} requests failed")
