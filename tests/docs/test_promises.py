"""Threat model: each answer has a test that exists, or a reason why the risk is accepted."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "security.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
TOP_TEN = [f"**API{n}**" for n in range(1, 11)]


def threats() -> list[tuple[str, str, str]]:
    """Threat, answer, tests."""
    section = PAGE.read_text(encoding="utf-8").partition("## Threats and answers")[2]
    table = section.partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("|")]
    return [(threat.strip(), answer.strip(), shown.strip()) for threat, answer, shown in rows[2:]]


def test_every_kind_of_threat_is_answered() -> None:
    named = " ".join(threat for threat, _, _ in threats())
    assert len(threats()) > 35
    assert [kind for kind in TOP_TEN if kind not in named] == []


@pytest.mark.parametrize("row", threats(), ids=lambda row: row[0][:60])
def test_an_answer_has_a_test_or_a_reason(row: tuple[str, str, str]) -> None:
    threat, answer, shown = row
    assert answer, threat
    if not shown:
        assert re.search(r"accepted\b.*\bbecause \w", answer), threat
    assert re.fullmatch(r"(`[^`]+`(, )?)*", shown), threat


@pytest.mark.parametrize(
    ("file", "test"), sorted({found for row in threats() for found in NAMED.findall(row[2])})
)
def test_a_test_that_is_named_exists(file: str, test: str) -> None:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    tests = {node.name for node in ast.walk(tree) if isinstance(node, functions)}
    assert any(name.startswith("test_") for name in tests)
    assert not test or test in tests
