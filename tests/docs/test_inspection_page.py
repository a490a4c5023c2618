"""docs/inspection.md and the code know the same codes."""

import re
from pathlib import Path

from engine.operations.probe import ProbeFailure
from registry.errors.defects import Defect, Remark

PAGE = (Path(__file__).parents[2] / "docs" / "inspection.md").read_text(encoding="utf-8")


def codes_of(heading: str) -> list[str]:
    """Of the table with this heading, in its order."""
    table = PAGE.partition(f"{heading}\n")[2].partition("\n\n")[0]
    return re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE)


def test_every_refusal_is_explained_once_and_in_order() -> None:
    assert codes_of("| code | what is wrong | what to do |") == list(Defect)


def test_every_remark_is_explained_once_and_in_order() -> None:
    assert codes_of("| code | what it means |") == list(Remark)


def test_every_failure_of_a_probe_is_named() -> None:
    section = PAGE.partition("## Probe\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(probe_\w+)`", section)) == set(ProbeFailure)


def test_every_code_has_a_cause_and_a_remedy() -> None:
    rows = [line.split(" | ") for line in PAGE.splitlines() if line.startswith("| `")]
    assert len(rows) == len(Defect) + len(Remark)
    assert all(len(cell.strip(" |`")) > 3 for row in rows for cell in row)
