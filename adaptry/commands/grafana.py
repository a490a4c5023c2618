"""`adaptry grafana …`: the dashboards, alert rules and configuration for Grafana and Prometheus."""

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from adaptry.shipped_files import shipped
from adaptry.terminal.errors import CommandError, UsageError

FOLDERS = ("grafana/dashboards", "grafana/provisioning", "grafana/rules")
PAGE = "docs/runbooks.md"
FILES = ("grafana/compose.yaml", "configs/prometheus.yml", PAGE)
_LINK_TO_A_PAGE = re.compile(r"\[([^\]]+)\]\([^)#]+[^)]*\)")
_URL = re.compile(r"https?://[^\s#\"'{}]+")

app = typer.Typer(help="Dashboards and alert rules for Grafana and Prometheus.")


@app.callback(invoke_without_command=True)
def group(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write them.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Write over what an earlier release wrote there.")
    ] = False,
    runbooks: Annotated[
        str | None,
        typer.Option(metavar="URL", help=f"Where you publish {PAGE}: alerts get a `runbook_url`."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the files as JSON.")] = False,
) -> None:
    """Write dashboards, rules, and the files that start Prometheus and Grafana with them."""
    if runbooks is not None and not _URL.fullmatch(runbooks):
        raise UsageError("--runbooks: the address of a page, http://… or https://…, without #")
    content = _content()
    existing = [path for path in content if (folder / path).exists()]
    if existing and not replace:
        raise CommandError(f"{folder / existing[0]} already exists: --replace writes over it")
    try:
        for path, source in content.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            text = _adapt(path, source.read_text(encoding="utf-8"), runbooks)
            (folder / path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{error.filename} can't be written: {error.strerror}") from error
    written = [str(folder / path) for path in content]
    print(json.dumps(written, indent=2) if as_json else "\n".join(written))


def _adapt(path: str, text: str, runbooks: str | None) -> str:
    """For a folder that has one page of the documentation, or an address where it is."""
    if path == PAGE:
        return _LINK_TO_A_PAGE.sub(r"\1", text)
    if runbooks is not None and path.startswith("grafana/rules/"):
        return text.replace(f"runbook: {PAGE}#", f"runbook_url: {runbooks}#")
    return text


def _content() -> dict[str, Path]:
    """Each file by its path below the folder, which the compose file relies on."""
    found = {}
    for name in (*FOLDERS, *FILES):
        top, _, rest = name.partition("/")
        place = shipped(top) / rest
        for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if file.is_file():
                found[f"{top}/{file.relative_to(shipped(top))}"] = file
    return found
