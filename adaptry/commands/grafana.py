"""`adaptry grafana …`: the dashboards, alert rules and configuration for Grafana and Prometheus."""

import json
import shutil
from pathlib import Path
from typing import Annotated

import typer

from adaptry.shipped_files import shipped
from adaptry.terminal.errors import CommandError

FOLDERS = ("grafana/dashboards", "grafana/provisioning", "grafana/rules")
FILES = ("grafana/compose.yaml", "configs/prometheus.yml")

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
    as_json: Annotated[bool, typer.Option("--json", help="Print the files as JSON.")] = False,
) -> None:
    """Write dashboards, rules, and the files that start Prometheus and Grafana with them."""
    content = _content()
    existing = [path for path in content if (folder / path).exists()]
    if existing and not replace:
        raise CommandError(f"{folder / existing[0]} already exists: --replace writes over it")
    try:
        for path, source in content.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / path)
    except OSError as error:
        raise CommandError(f"{error.filename} can't be written: {error.strerror}") from error
    written = [str(folder / path) for path in content]
    print(json.dumps(written, indent=2) if as_json else "\n".join(written))


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
