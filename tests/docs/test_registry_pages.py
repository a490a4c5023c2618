"""The pages on the registry are run as they stand, and print what they say."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.postgres import PostgresServer
from tests.registry_server import registry_server

ROOT = Path(__file__).parents[2]
PAGES = ("lifecycle.md", "aliases.md", "metadata.md", "events.md", "transfer.md")
BLOCK = re.compile(r"^```(sh|text)\n(.*?)^```", re.DOTALL | re.MULTILINE)
SEPARATOR = "@@@ next block @@@"


def blocks_of(page: str) -> list[tuple[str, str]]:
    """(commands, expected output or "") in order."""
    found: list[tuple[str, str]] = []
    for kind, content in BLOCK.findall((ROOT / "docs" / page).read_text(encoding="utf-8")):
        if kind == "sh":
            found.append((content, ""))
        elif found and not found[-1][1]:
            found[-1] = (found[-1][0], content)
    return found


def run(commands: list[str], server: str) -> list[str]:
    """The output of each, all in one shell, as if pasted into a terminal."""
    script = f"\necho '{SEPARATOR}'\n".join(commands)
    done = subprocess.run(
        ["bash", "-c", script.replace("http://127.0.0.1:8000", server)],
        cwd=ROOT,
        env={**os.environ, "ADAPTRY_SERVER": server, "PATH": path()},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return done.stdout.split(f"{SEPARATOR}\n")


def path() -> str:
    return os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))


def matches(expected: str, found: str) -> bool:
    """Line by line; blanks are as good as one, and `…` stands for anything."""
    wanted = [" ".join(line.split()) for line in expected.splitlines()]
    lines = [" ".join(line.split()) for line in found.splitlines()]
    patterns = [".*".join(map(re.escape, line.split("…"))) for line in wanted]
    return len(wanted) == len(lines) and all(
        re.fullmatch(pattern, line) for pattern, line in zip(patterns, lines, strict=True)
    )


@pytest.mark.parametrize("page", PAGES)
def test_a_page_prints_what_it_says(page: str, tmp_path: Path) -> None:
    blocks = blocks_of(page)
    assert len([output for _, output in blocks if output]) >= 4, "a page shows what happens"
    with registry_server(tmp_path) as server:
        outputs = run([commands for commands, _ in blocks], server)
    compare(blocks, outputs)


def test_the_page_on_databases_prints_what_it_says(postgres: PostgresServer) -> None:
    blocks = blocks_of("database.md")
    postgres.sql("CREATE DATABASE page")
    commands = [
        commands.replace("postgresql://adaptry@127.0.0.1/registry", postgres.url("page"))
        for commands, _ in blocks
    ]
    try:
        compare(blocks, run(commands, "http://127.0.0.1:1"))
    finally:
        shutil.rmtree("/tmp/adaptry-docs", ignore_errors=True)


def compare(blocks: list[tuple[str, str]], outputs: list[str]) -> None:
    assert len(outputs) == len(blocks) > 0
    for (commands, expected), found in zip(blocks, outputs, strict=True):
        as_said = matches(expected, found) if expected else "adaptry: " not in found
        assert as_said, f"{commands}\nprinted\n{found}\nnot\n{expected}"
