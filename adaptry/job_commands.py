"""`adaptry job …`: what the registry is bringing in, and what became of it."""

from typing import Annotated

import typer

from adaptry.options import DEFAULT_SERVER, AsJson, Server, show_help
from adaptry.output import show_fields, show_json, show_table, size, text
from adaptry.rest import Json, RestClient

app = typer.Typer(
    invoke_without_command=True,
    callback=show_help,
    help="Follow and cancel registrations that take a while.",
)

Number = Annotated[int, typer.Argument(metavar="JOB", min=1, help="The job's number.")]


@app.command("list")
def list_(
    state: Annotated[str | None, typer.Option(help="Such as running or failed.")] = None,
    adapter: Annotated[str | None, typer.Option(help="Of one adapter only.")] = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """All jobs, the newest first."""
    with RestClient(server) as client:
        jobs = client.jobs(state, adapter)
    if as_json:
        show_json(jobs)
        return
    show_table(
        ("JOB", "ADAPTER", "STATE", "DONE", "TOTAL", "SOURCE", "RESULT"),
        [
            (
                text(job.get("id")),
                text(job.get("adapter")),
                text(job.get("state")),
                size(job.get("bytes_done")),
                size(job.get("bytes_total")),
                text(job.get("source")),
                text(job.get("version") or job.get("code")),
            )
            for job in jobs
        ],
    )


@app.command()
def show(number: Number, server: Server = DEFAULT_SERVER, as_json: AsJson = False) -> None:
    """One job: how far it is, or how it ended."""
    with RestClient(server) as client:
        _print(client.job(str(number)), as_json)


@app.command()
def cancel(number: Number, server: Server = DEFAULT_SERVER, as_json: AsJson = False) -> None:
    """End a job. What it has published already stays."""
    with RestClient(server) as client:
        _print(client.cancel_job(number), as_json)


def _print(job: Json, as_json: bool) -> None:
    if as_json:
        show_json(job)
    else:
        show_fields(job)
