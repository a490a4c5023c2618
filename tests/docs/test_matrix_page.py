"""The matrix of docs/inspection.md: written by the code, of what it knows, true in each cell."""

import json
import re
from pathlib import Path

from tests.support.adapters.matrix import (
    END,
    KINDS,
    NOT_MADE,
    PAGE,
    REFUSALS_END,
    REFUSALS_START,
    SHOWN_REFUSING,
    START,
    cell,
    refusals,
    table,
    write_found,
)
from tests.support.adapters.peft_kinds import Answer
from tests.support.adapters.tiny_bases import BASES
from tests.support.adapters.unserved_kinds import UNSERVED

ONE, OTHER = Answer([1], [-0.5]), Answer([2], [-0.5])
TRUE = re.compile(r"identical|`\w+`: vLLM (refuses it too|answers otherwise)|" + NOT_MADE)


def test_the_page_has_a_row_for_each_base_that_ran_and_a_column_for_each_kind() -> None:
    lines = PAGE.read_text().partition(START)[2].partition(END)[0].strip().splitlines()
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    assert head == ["base model", *KINDS]
    titles = [row[0] for row in rows]
    assert titles == [base.title for base in BASES.values() if base.title in titles]
    assert all(TRUE.fullmatch(found) for row in rows for found in row[1:])


def test_the_page_has_every_refusal_by_configuration_on_each_engine_that_ran() -> None:
    lines = PAGE.read_text().partition(REFUSALS_START)[2].partition(REFUSALS_END)[0].strip()
    head, _, *rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in lines.splitlines()
    ]
    engines = [BASES[base].title for base in SHOWN_REFUSING]
    assert head[:2] == ["adapter", "code"]
    assert head[2:] == [title for title in engines if title in head]
    assert len(head) > 2
    assert [(what, code) for what, code, *_ in rows] == [
        (what, f"`{code}`") for what, (code, _) in UNSERVED.items()
    ]
    true = {"vLLM refuses it too", "vLLM answers otherwise"}
    assert {found for row in rows for found in row[2:]} <= true


def test_only_what_ran_is_in_the_table(tmp_path: Path) -> None:
    write_found("qwen3", {"DoRA": "identical"}, tmp_path)
    assert json.loads((tmp_path / "qwen3.json").read_text())
    rows = table(tmp_path).splitlines()[2:]
    assert len(rows) == 1
    assert rows[0].startswith("| Qwen3 |")
    assert rows[0].count(NOT_MADE) == len(KINDS) - 1


def test_a_row_that_did_not_run_stays_as_it_was_printed(tmp_path: Path) -> None:
    write_found("qwen3", {"DoRA": "identical"}, tmp_path / "then")
    write_found("llama", {"DoRA": "identical"}, tmp_path / "now")
    both = table(tmp_path / "now", table(tmp_path / "then")).splitlines()[2:]
    assert [row.split(" | ")[0] for row in both] == ["| Llama", "| Qwen3"]
    write_found("qwen3-embed-refusals", {"DoRA": "`dora_unsupported`: a"}, tmp_path / "then")
    write_found("llama-refusals", {"DoRA": "`dora_unsupported`: b"}, tmp_path / "now")
    found = refusals(tmp_path / "now", refusals(tmp_path / "then")).splitlines()
    assert found[0] == "| adapter | code | Llama | Qwen3 embedding |"
    assert found[2] == "| DoRA | `dora_unsupported` | b | a |"


def test_a_cell_is_untrue_where_inspection_is() -> None:
    assert cell(None, ONE, "", ONE) == "identical"
    assert cell(None, ONE, "", OTHER) == cell(None, ONE, "", None) == "WRONG"
    assert not TRUE.fullmatch(cell("dora_unsupported", None, ONE, ONE))
    assert not TRUE.fullmatch(cell("dora_unsupported", None, ONE, None))
    assert TRUE.fullmatch(cell("dora_unsupported", None, ONE, OTHER))
    assert TRUE.fullmatch(cell("dora_unsupported", None, "no", ONE))
