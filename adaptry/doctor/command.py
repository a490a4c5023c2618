"""`adaptry doctor`: checks of this installation, with fixes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from adaptry.doctor import machine as doctor_machine
from adaptry.doctor.findings import Check, Finding, Health, run_checks
from adaptry.terminal.errors import FAILED
from adaptry.terminal.options import DEFAULT_SERVER, AsJson, Server
from adaptry.terminal.output import show_json

SIGNS = {Health.OK: "ok     ", Health.WARNING: "warning", Health.BROKEN: "BROKEN "}


def doctor(
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

    Exits with 1 if something is broken.
    """
    findings = []
    for finding in run_checks(_checks(database, store, server)):
        findings.append(finding)
        if not as_json:
            _show(finding)
    if as_json:
        show_json([finding.as_json() for finding in findings])
    if any(finding.health is Health.BROKEN for finding in findings):
        raise typer.Exit(FAILED)


def _checks(database: str | None, store: Path | None, server: str) -> Iterator[tuple[str, Check]]:
    yield "python", doctor_machine.check_python
    yield "install", doctor_machine.check_install
    yield "vllm", doctor_machine.check_vllm
    yield "gpu", doctor_machine.check_gpu
    yield "compiler", doctor_machine.check_compiler
    yield "memory", doctor_machine.check_memory
    yield "file limit", doctor_machine.check_file_limit
    from adaptry.doctor.service import Service, check_settings
    from registry.settings import RegistrySettings

    yield "settings", check_settings
    fields = RegistrySettings.model_fields
    service = Service(
        database or str(fields["database_url"].default), store or fields["store"].default, server
    )
    yield "database", service.check_database
    yield "store", service.check_store
    yield "server", service.check_server


def _show(finding: Finding) -> None:
    print(f"{SIGNS[finding.health]}  {finding.check}: {finding.detail}")
    if finding.fix:
        print(f"         fix: {finding.fix}")
