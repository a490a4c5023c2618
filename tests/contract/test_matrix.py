"""The matrix of docs/inspection.md: base models and kinds of adapters, on real engines.

CI runs the offline class on three base models that differ most from the demo's; the other contract
tests have a generating engine, and tests/e2e a classifying one over HTTP. `make matrix` runs all.
"""

from pathlib import Path

import pytest

from registry.errors import InvalidAdapter
from tests.support.adapters.matrix import KINDS, OF_AUTO_MODEL, cell, write_found
from tests.support.adapters.peft_kinds import Peft, lora, task_of
from tests.support.adapters.tiny_bases import BASES
from tests.support.vllm.tiny_engines import offline_base, served_base

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

IN_CI = ("olmo2-narrow", "qwen3-embed", "llama-classify")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    is_long = metafunc.config.getoption("--long")
    metafunc.parametrize("name", list(BASES) if is_long else IN_CI)


def test_what_is_accepted_answers_as_peft_and_what_is_refused_vllm_can_not(
    name: str, tmp_path: Path, is_long: bool
) -> None:
    base = BASES[name]
    folder = base.save(tmp_path / "base")
    peft, task = Peft(folder), task_of(folder)
    kinds = {kind: make for kind, (tasks, make) in KINDS.items() if task in tasks}
    adapters, right = {}, {}
    for number, (kind, make) in enumerate(kinds.items()):
        adapters[kind] = make().save(folder, tmp_path / "adapters" / f"a{number}")
        right[kind] = peft.answer(adapters[kind])  # before vLLM changes transformers' classes
    if OF_AUTO_MODEL in kinds:
        right[OF_AUTO_MODEL] = peft.answer(lora().save(folder, tmp_path / "as-trained"))
    cells = {}
    with offline_base(folder, dict(base.engine)) as offline:
        assert offline.answer(None).equals(peft.base)
        for kind, adapter in adapters.items():
            code, own = None, None
            try:
                own = offline.answer(str(adapter))
                assert not own.equals(peft.base), f"{kind} has no effect"
            except InvalidAdapter as refusal:
                code = refusal.code
            cells[kind] = cell(code, own, offline.stock(adapter), right[kind])
    if is_long:
        write_found(name, cells)
        with served_base(tmp_path, folder, tmp_path / "adapters", dict(base.engine)) as server:
            assert server.answer("base").equals(peft.base)
            for kind, adapter in adapters.items():
                code, expected = server.add(adapter.name, adapter), right[kind]
                assert (code is None) == (cells[kind] == "identical"), (kind, code, cells[kind])
                if code is None:
                    assert expected is not None
                    assert server.answer(adapter.name).equals(expected), kind
    untrue = {kind: found for kind, found in cells.items() if "WRONG" in found or "BUT" in found}
    assert not untrue
