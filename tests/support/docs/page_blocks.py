"""Code blocks of docs/: which tests run them, how, and which are not run and why."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.docs.forked_commands import folder_of_commands

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"
SERVER = "http://127.0.0.1:8000"
PAGE_SECONDS = 300  # on a busy machine; a page takes a minute at most on a quiet one
SEPARATOR = "@@@ next block @@@"
BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?```(?P<kind>\S*)\n(?P<content>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
RUNNABLE = ("sh", "python")
NO_ENGINE = re.compile(r"^note: .*\[engine_not_asked\]\n", re.MULTILINE)
"""What a registry without an engine remarks: the reader of a page has one."""

REGISTRY_PAGES = (
    "aliases.md",
    "concepts/adapters.md",
    "events.md",
    "lifecycle.md",
    "metadata.md",
    "operations/backup.md",
    "transfer.md",
)
"""Run against a registry of its own each, in tests/docs/test_registry_pages.py."""

ENGINE_PAGES = (
    "agents.md",
    "bad-input.md",
    "cache.md",
    "client.md",
    "concepts/fairness.md",
    "concepts/request.md",
    "console.md",
    "howto/from-dynamo.md",
    "howto/from-lorax.md",
    "howto/from-tgi.md",
    "howto/from-mlflow.md",
    "howto/from-sglang.md",
    "howto/from-vllm.md",
    "howto/pin.md",
    "howto/promote.md",
    "howto/slow.md",
    "keys.md",
    "tenants.md",
    "tenant-limits.md",
    "metrics.md",
    "operations/sizing.md",
    "operations/upgrade.md",
    "quick-start.md",
    "register.md",
)
"""Run against the session's engine, in tests/e2e/docs/test_engine_pages.py."""

OTHER_TESTS = {
    "database.md": "tests/docs/test_registry_pages.py",
    "operations/replicas.md": "tests/fleet/test_replicas_page.py",
    "operations/deployment.md": "tests/docs/test_deployment_files.py",
    "inspection.md": "tests/e2e/docs/test_inspection_examples.py",
    "runbooks.md": "tests/e2e/docs/test_dashboard_queries.py",
}
"""Pages that have a test of their own."""


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block. `not_run`: the reason before it, if any."""

    kind: str
    content: str
    not_run: str | None

    @property
    def command(self) -> str:
        """What a shell runs."""
        if self.kind == "python":
            return f"python - <<'PYTHON'\n{self.content}PYTHON\n"
        return self.content


def all_blocks(page: str) -> list[Block]:
    """Of a page of docs/, in its order."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return [Block(m["kind"], m["content"], m["reason"]) for m in BLOCK.finditer(text)]


def blocks_of(page: str) -> list[tuple[str, str]]:
    """Commands with their expected output or "", in order."""
    found: list[tuple[str, str]] = []
    follows = False  # what is printed belongs to the block right before it
    for block in all_blocks(page):
        if block.kind in RUNNABLE and block.not_run is None:
            found.append((block.command, ""))
        elif block.kind == "text" and follows:
            found[-1] = (found[-1][0], block.content)
        follows = block.kind in RUNNABLE and block.not_run is None
    return found


def run(commands: list[str], server: str) -> list[str]:
    """The output of each, all in one shell, as if pasted into a terminal."""
    script = f"\necho '{SEPARATOR}'\n".join(commands)
    done = subprocess.run(
        ["bash", "-c", script.replace(SERVER, server)],
        cwd=ROOT,
        env={**os.environ, "ADAPTRY_SERVER": server, "PATH": path(), "TQDM_DISABLE": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=PAGE_SECONDS,
    )
    return NO_ENGINE.sub("", done.stdout).split(f"{SEPARATOR}\n")


def path() -> str:
    programs = (str(folder_of_commands()), str(Path(sys.executable).parent))
    return os.pathsep.join((*programs, os.environ["PATH"]))


def matches(expected: str, found: str) -> bool:
    """Line by line; runs of blanks count as one, and `…` matches anything."""
    wanted = [" ".join(line.split()) for line in expected.splitlines()]
    lines = [" ".join(line.split()) for line in found.splitlines()]
    patterns = [".*".join(map(re.escape, line.split("…"))) for line in wanted]
    return len(wanted) == len(lines) and all(
        re.fullmatch(pattern, line) for pattern, line in zip(patterns, lines, strict=True)
    )


def compare(blocks: list[tuple[str, str]], outputs: list[str]) -> None:
    assert len(outputs) == len(blocks) > 0
    for (commands, expected), found in zip(blocks, outputs, strict=True):
        as_said = matches(expected, found) if expected else not _complains(found)
        assert as_said, f"{commands}\nprinted\n{found}\nnot\n{expected}"


def _complains(output: str) -> bool:
    """Without an expected output, there must be no error."""
    return re.search(r"^adaptry: |^Traceback|^bash: |^curl: ", output, re.MULTILINE) is not None
