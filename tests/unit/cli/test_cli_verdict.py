"""Printing of an inspection's verdict."""

import pytest

from adaptry.client.models import VerdictRead
from adaptry.terminal.output import show_verdict


def test_a_refusal_has_a_line_for_each_defect(capsys: pytest.CaptureFixture[str]) -> None:
    problems = [
        {"code": "dora_unsupported", "detail": "use_dora: no", "count": 1},
        {"code": "unknown_tensor", "detail": "'a' is none", "count": 3},
    ]
    show_verdict(
        VerdictRead.model_validate({"accepted": False, "adapter": None, "problems": problems})
    )
    assert capsys.readouterr().out.splitlines() == [
        "refused",
        "dora_unsupported: use_dora: no",
        "unknown_tensor: 'a' is none (3 times)",
    ]


def test_an_accepted_adapter_is_described_with_its_remarks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = {
        "engine": None,
        "shapes_checked": False,
        "modules": 2,
        "tensors": 4,
        "parameters": 64,
        "ranks": {"4": 2},
        "files": {},
        "remarks": [{"code": "unknown_field", "detail": "'x': not known here"}],
    }
    facts = {
        "kind": "lora",
        "rank": 4,
        "alpha": 8.0,
        "target_modules": ["q_proj"],
        "dtype": "F32",
        "base_model": None,
        "size_bytes": 2048,
        "inspection": report,
    }
    show_verdict(VerdictRead.model_validate({"accepted": True, "adapter": facts, "problems": []}))
    assert capsys.readouterr().out.splitlines() == [
        "accepted",
        "kind            lora",
        "rank            4",
        "alpha           8.0",
        "target_modules  q_proj",
        "dtype           F32",
        "size            2.0 KiB",
        "modules         2",
        "tensors         4",
        "parameters      64",
        "shapes_checked  no",
        "note: 'x': not known here [unknown_field]",
    ]
