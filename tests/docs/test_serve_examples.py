"""Each `adaptry serve` of the documents is one that our parser takes."""

import re
import shlex
from pathlib import Path

import pytest

from adaptry.serve.arguments import parse
from tests.support.docs.page_blocks import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"^(?:\.venv/bin/)?adaptry serve (.+)$", re.MULTILINE)


def examples() -> list[tuple[str, str]]:
    """(page, arguments), each as if it stood on one line."""
    return [
        (page.relative_to(ROOT).as_posix(), arguments)
        for page in PAGES
        for block in FENCE.findall(page.read_text(encoding="utf-8"))
        for arguments in COMMAND.findall(block.replace("\\\n", " "))
    ]


@pytest.mark.parametrize(("page", "arguments"), examples())
def test_an_example_is_understood(page: str, arguments: str, tmp_path: Path) -> None:
    here = arguments.replace("/srv", str(tmp_path))
    for folder in re.findall(rf"{re.escape(str(tmp_path))}/adapters/\S+", here):
        Path(folder).mkdir(parents=True, exist_ok=True)
    parsed = parse(shlex.split(here))
    assert parsed.model.startswith("meta-llama/")
    assert "--max-loras" in parsed.vllm
    assert parsed.source_roots == (tmp_path / "adapters",)


def test_there_are_examples() -> None:
    assert {"README.md", "docs/quick-start.md"} <= {page for page, _ in examples()}
