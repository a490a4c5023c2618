"""Promises on pages: each names a test that exists, or a reason why a risk is accepted."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECURITY = ROOT / "docs" / "security.md"
RELIABILITY = ROOT / "docs" / "reliability.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
OF_ANY_KIND = re.compile(r"`([\w/]*test_\w+(?:\.py|(?=[`:])))")
TOP_TEN = [f"**API{n}**" for n in range(1, 11)]


def rows(page: Path, heading: str) -> list[list[str]]:
    """Cells of the table below a heading."""
    section = page.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2]
    table = section.partition("\n## ")[0]
    lines = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in cells] for cells in lines[2:]]


def promises() -> list[str]:
    """What is promised of every server, without the table of faults."""
    section = RELIABILITY.read_text(encoding="utf-8").partition("\n## What is promised\n")[2]
    return re.findall(r"^- \*\*.*?(?=^- \*\*|\Z)", section.partition("\n## ")[0], re.M | re.S)


THREATS = rows(SECURITY, "Threats and answers")
FAULTS = rows(RELIABILITY, "Faults")


def test_every_kind_of_threat_is_answered() -> None:
    named = " ".join(threat for threat, _, _ in THREATS)
    assert len(THREATS) > 35
    assert [kind for kind in TOP_TEN if kind not in named] == []


@pytest.mark.parametrize("row", THREATS, ids=lambda row: row[0][:60])
def test_an_answer_has_a_test_or_a_reason(row: list[str]) -> None:
    threat, answer, shown = row
    assert answer, threat
    if not shown:
        assert re.search(r"accepted\b.*\bbecause \w", answer), threat
    assert re.fullmatch(r"(`[^`]+`(, )?)*", shown), threat


def test_every_promise_and_every_fault_has_a_test() -> None:
    assert len(promises()) > 5
    assert [promise for promise in promises() if not NAMED.search(promise)] == []
    assert len(FAULTS) > 15
    for fault, promised, shown in FAULTS:
        assert promised, fault
        assert re.fullmatch(r"`[^`]+`(, `[^`]+`)*", shown), fault
        assert NAMED.search(shown), fault


@pytest.mark.parametrize("page", [SECURITY, RELIABILITY], ids=lambda page: page.stem)
def test_a_test_that_is_named_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = sorted(set(NAMED.findall(text)))
    assert len(named) > 30
    for file, test in named:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        functions = (ast.FunctionDef, ast.AsyncFunctionDef)
        tests = {node.name for node in ast.walk(tree) if isinstance(node, functions)}
        generated = "policy_test(" in (ROOT / file).read_text(encoding="utf-8")
        assert generated or any(name.startswith("test_") for name in tests), file
        assert not test or test in tests, f"{file}::{test}"
    assert {name for name in OF_ANY_KIND.findall(text) if "/" not in name} == set()
