"""`adaptry doctor`: checks of this installation, with fixes."""

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from adaptry.doctor.findings import Check, Finding, Health, run_checks
from adaptry.terminal.errors import FAILED
from adaptry.terminal.options import API_KEY, DEFAULT_SERVER, AsJson, Server, connect
from adaptry.terminal.output import show_json

SIGNS = {Health.OK: "ok     ", Health.WARNING: "warning", Health.BROKEN: "BROKEN "}


def doctor(
    context: typer.Context,
    database: Annotated[
        str | None,
        typer.Option("--database", envvar="ADAPTRY_DATABASE_URL", metavar="URL"),
    ] = None,
    store: Annotated[
        Path | None, typer.Option(envvar="ADAPTRY_STORE", help="Folder of the verified files.")
    ] = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Check install, vLLM, GPU, database, disk, port and limits; print how to fix problems.

    With --server, check the server that runs there instead: its database, engine and store, what
    alerts watch, the cache, its last decisions. Exits with 1 if something is broken.
    """
    findings = []
    source = context.get_parameter_source("server")
    is_named = source is not None and source.name != "DEFAULT"
    is_remote = is_named and database is None and store is None
    checks = _of_server(server) if is_remote else _checks(database, store, server)
    for finding in run_checks(checks):
        findings.append(finding)
        if not as_json:
            _show(finding)
    if is_remote and not as_json:
        print(_in_short(findings))
    if as_json:
        show_json([finding.as_json() for finding in findings])
    if any(finding.health is Health.BROKEN for finding in findings):
        raise typer.Exit(FAILED)


def _of_server(server: str) -> Iterator[tuple[str, Check]]:
    from adaptry.doctor.running import RunningServer

    with connect(server) as client:
        running = RunningServer(server, client, os.environ.get(API_KEY) or None)
        yield "server", running.check_answers
        if client.is_alive():
            yield from running.checks()


def _in_short(findings: Sequence[Finding]) -> str:
    """The worst of it on one line."""
    for health in (Health.BROKEN, Health.WARNING):
        for each in findings:
            if each.health is health:
                return f"in short: {health}, {each.detail}: {each.fix}"
    return "in short: nothing is wrong"


def _checks(database: str | None, store: Path | None, server: str) -> Iterator[tuple[str, Check]]:
    from adaptry.doctor import machine as doctor_machine

    yield "python", doctor_machine.check_python
    yield "install", doctor_machine.check_install
    yield "vllm", doctor_machine.check_vllm
    yield "gpu", doctor_machine.check_gpu
    yield "compiler", doctor_machine.check_compiler
    yield "memory", doctor_machine.check_memory
    yield "file limit", doctor_machine.check_file_limit
    from adaptry.doctor.service import Service, check_settings
    from registry.defaults import DATABASE_URL, STORE

    yield "settings", check_settings
    service = Service(database or DATABASE_URL, store or STORE, server)
    has_own = database is None and store is None and service.answers()
    if not has_own:  # else what is here is not what the running server uses
        yield "database", service.check_database
        yield "store", service.check_store
    yield "server", service.check_server
    if has_own:
        yield from islice(_of_server(server), 1, None)


def _show(finding: Finding) -> None:
    print(f"{SIGNS[finding.health]}  {finding.check}: {finding.detail}")
    if finding.fix:
        print(f"         fix: {finding.fix}")
