"""`adaptry job …`: background registration jobs."""

from itertools import islice
from typing import TYPE_CHECKING, Annotated, cast

import typer

from adaptry.terminal.completion import adapter_names
from adaptry.terminal.errors import UsageError
from adaptry.terminal.options import DEFAULT_SERVER, AsJson, Server, connect, show_help
from adaptry.terminal.output import show_fields, show_json, show_table, size, text

if TYPE_CHECKING:
    from adaptry.client.models import JobRead, JobState

app = typer.Typer(
    invoke_without_command=True,
    callback=show_help,
    help="Follow and cancel background registrations.",
)

TenantOption = Annotated[str | None, typer.Option("--tenant", help="Only of this tenant.")]
Number = Annotated[int, typer.Argument(metavar="JOB", min=1, help="The job's number.")]


@app.command("list")
def list_(
    state: Annotated[str | None, typer.Option(help="Such as running or failed.")] = None,
    adapter: Annotated[
        str | None, typer.Option(help="Only of this adapter.", autocompletion=adapter_names)
    ] = None,
    tenant: TenantOption = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many only.")] = 100,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """List jobs, the newest first."""
    size_of_page = min(limit, 100)
    with connect(server) as client:
        found = client.jobs.list(
            state=cast("JobState | None", state),
            adapter=adapter,
            tenant=tenant,
            page_size=size_of_page,
        )
        jobs = list(islice(found, limit))
    if as_json:
        show_json(jobs)
        return
    show_table(
        ("JOB", "ADAPTER", "STATE", "DONE", "TOTAL", "SOURCE", "RESULT"),
        [
            (
                str(job.id),
                job.adapter,
                job.state,
                size(job.bytes_done),
                size(job.bytes_total),
                job.source,
                text(job.version or job.code),
            )
            for job in jobs
        ],
        empty="no job meets these conditions" if state or adapter or tenant else "no jobs yet",
    )


@app.command()
def show(number: Number, server: Server = DEFAULT_SERVER, as_json: AsJson = False) -> None:
    """Show one job: its progress, or how it ended."""
    with connect(server) as client:
        _print(client.jobs.get(number), as_json)


@app.command()
def cancel(
    number: Annotated[
        int | None, typer.Argument(metavar="JOB", min=1, help="The job's number.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All that have not ended.")] = False,
    state: Annotated[str | None, typer.Option(help="All that are queued, or running.")] = None,
    adapter: Annotated[
        str | None, typer.Option(help="All of this adapter.", autocompletion=adapter_names)
    ] = None,
    tenant: TenantOption = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Cancel a job, or all that match. What they have already published stays."""
    matches = every or any(wanted is not None for wanted in (state, adapter, tenant))
    if (number is None) != matches:
        raise UsageError("name one job, or say which: --all, --state, --adapter, --tenant")
    with connect(server) as client:
        if number is not None:
            _print(client.jobs.cancel(number), as_json)
            return
        count = client.jobs.cancel_all(
            state=cast("JobState | None", state), adapter=adapter, tenant=tenant
        )
    if as_json:
        show_json({"cancelled": count})
    else:
        print(f"{count} cancelled")


def _print(job: "JobRead", as_json: bool) -> None:
    if as_json:
        show_json(job)
    else:
        show_fields(job)
