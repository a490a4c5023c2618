"""The matrix of docs/inspection.md: base models and kinds of adapters, on real engines.

CI runs the offline class on three base models that differ most from the demo's; the other contract
tests have a generating engine, and tests/e2e an embedding and a classifying one over HTTP. `make
matrix` runs all.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from engine.worker.prefix_hashes import PrefixHashes
from registry.errors import InvalidAdapter
from tests.support.adapters.matrix import KINDS, OF_AUTO_MODEL, REFUSING, cell, write_found
from tests.support.adapters.peft_kinds import Answer, Peft, lora, task_of
from tests.support.adapters.tiny_bases import BASES
from tests.support.adapters.unserved_kinds import UNSERVED
from tests.support.vllm.installed import UNCHECKED
from tests.support.vllm.pooling_routes import wrong_routes
from tests.support.vllm.tiny_engines import OfflineBase, ServedBase, offline_base, served_base

pytestmark = [pytest.mark.engine]

ACTIVATED = partial(lora, alora_invocation_tokens=[82, 86, 74, 68, 76])  # within the prompt
NOT_HERE = "alora_unsupported"
IN_CI = ("olmo2-narrow", "qwen3-embed", "llama-reward")


@dataclass
class Tried:
    """An adapter, and PEFT's answer. `refusal`: a code that it has to be refused with."""

    folder: Path
    right: Answer | None
    refusal: str | None = None
    cell: str = ""

    def try_offline(self, engine: OfflineBase, peft: Peft) -> None:
        code, own = None, None
        try:
            own = engine.answer(str(self.folder))
            assert not own.equals(peft.base), f"{self.folder} has no effect"
        except InvalidAdapter as refusal:
            code = refusal.code
        assert self.refusal in (None, code), f"{self.folder} is not refused with {self.refusal}"
        self.cell = cell(code, own, engine.stock(self.folder), self.right)

    def try_served(self, server: ServedBase, name: str, peft: Peft) -> None:
        code = server.add(name, self.folder)
        assert (code is None) == (self.cell == "identical"), (code, self.cell)
        assert self.refusal in (None, code)
        if code is None:
            assert self.right is not None
            assert server.answer(name).equals(self.right)
            assert dict(wrong_routes(server.client, name, peft, self.folder)) == {}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    is_long = metafunc.config.getoption("--long")
    metafunc.parametrize("name", list(BASES) if is_long else IN_CI)


def test_what_is_accepted_answers_as_peft_and_what_is_refused_vllm_can_not(
    name: str, tmp_path: Path, is_long: bool
) -> None:
    base = BASES[name]
    folder, adapters = base.save(tmp_path / "base"), tmp_path / "adapters"
    peft, task = Peft(folder), task_of(folder)  # PEFT before vLLM changes transformers' classes
    kinds: dict[str, Tried] = {}
    unserved: dict[str, Tried] = {}
    for kind, (tasks, make) in KINDS.items():
        if task in tasks:
            saved = make().with_names(base.names).save(folder, adapters / f"kind-{len(kinds)}")
            kinds[kind] = Tried(saved, peft.answer(saved))
    if OF_AUTO_MODEL in kinds:
        saved = lora().with_names(base.names).save(folder, tmp_path / "as-trained")
        kinds[OF_AUTO_MODEL].right = peft.answer(saved)
    for what, (code, make) in UNSERVED.items():
        if name in REFUSING:
            saved = make().with_names(base.names).save(folder, adapters / f"not-{len(unserved)}")
            unserved[what] = Tried(saved, peft.answer(saved), code)
    saved = ACTIVATED().with_names(base.names).save(folder, adapters / "activated")
    activated = Tried(saved, peft.answer(saved), None if task == "generate" else NOT_HERE)
    everything = (*kinds.values(), *unserved.values(), activated)
    with offline_base(folder, dict(base.engine)) as offline:
        assert offline.answer(None).equals(peft.base)
        assert remembers_hashes(offline)
        for tried in everything:
            tried.try_offline(offline, peft)
    if is_long:
        with served_base(tmp_path, folder, adapters, dict(base.engine)) as server:
            assert server.answer("base").equals(peft.base)
            assert dict(wrong_routes(server.client, "base", peft, None)) == {}
            for number, tried in enumerate(everything):
                tried.try_served(server, f"adapter-{number}", peft)
        write_found(name, {kind: tried.cell for kind, tried in kinds.items()})
        write_found(f"{name}-refusals", {what: tried.cell for what, tried in unserved.items()})
    unchecked = [unserved[what] for what in UNCHECKED if what in unserved]
    untrue = {
        str(tried.folder): tried.cell
        for tried in everything
        if "WRONG" in tried.cell or ("BUT" in tried.cell and tried not in unchecked)
    }
    assert not untrue
    if task == "generate":  # else it is refused; of PEFT it has no effect there, of vLLM it has
        assert activated.cell == "identical"


def remembers_hashes(offline: OfflineBase) -> bool:
    """Whether the engine was made with our hook, if it has a prefix cache at all."""
    core = offline.llm._engine.engine_core.engine_core
    hash_blocks = core.request_block_hasher
    return hash_blocks is None or isinstance(hash_blocks.__self__, PrefixHashes)
