"""A classifier over HTTP: adapters with a trained head and without one, through two slots."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.adapters.matrix import without_head
from tests.support.adapters.peft_kinds import Answer, Kind, Peft, lora
from tests.support.adapters.tiny_bases import BASES
from tests.support.vllm.pooling_routes import wrong_routes
from tests.support.vllm.tiny_engines import ServedBase, served_base

pytestmark = [pytest.mark.servers("bases")]

KINDS: dict[str, Callable[[], Kind]] = {
    "with-head": lora,
    "without-head": lambda: lora(without_head, target_modules=["o_proj"]),
    "all-with-head": lambda: lora(target_modules="all-linear"),
    "none-either": lambda: lora(without_head, target_modules=["gate_proj", "v_proj"]),
}


@dataclass
class Classifier:
    server: ServedBase
    peft: Peft
    adapters: dict[str, Path | None]
    right: dict[str, Answer]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Classifier]:
    base, folder = BASES["llama-classify"], tmp_path_factory.mktemp("classifier")
    model = base.save(folder / "base")
    peft = Peft(model)
    with served_base(folder, model, folder / "adapters", dict(base.engine)) as server:
        right, adapters = {"base": peft.base}, dict[str, Path | None](base=None)
        for name, make in KINDS.items():
            adapter = make().save(model, folder / "adapters" / name)
            assert server.add(name, adapter) is None
            answer = peft.answer(adapter)
            assert answer is not None
            adapters[name], right[name] = adapter, answer
        yield Classifier(server, peft, adapters, right)


def test_every_route_answers_as_peft(classifier: Classifier) -> None:
    client = classifier.server.client
    for name, adapter in classifier.adapters.items():
        assert dict(wrong_routes(client, name, classifier.peft, adapter)) == {}, name


def test_a_slot_has_the_head_of_its_adapter_and_no_other(classifier: Classifier) -> None:
    """One by one, two of a kind after two of the other: each takes the slot of one of the other."""
    with_heads = [name for name in KINDS if name.endswith("with-head")]
    others = [name for name in KINDS if name not in with_heads]
    for name in [*with_heads, *others, "base"] * 3:
        assert classifier.server.answer(name).equals(classifier.right[name]), name


def test_adapters_and_the_base_model_in_one_batch_keep_their_heads(classifier: Classifier) -> None:
    asked = list(classifier.right) * 12
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(classifier.server.answer, asked))
    for name, found in zip(asked, answers, strict=True):
        assert found.equals(classifier.right[name]), name


def test_a_probe_compares_what_is_pooled(classifier: Classifier) -> None:
    for name in KINDS:
        response = classifier.server.client.post(f"/api/v1/adapters/{name}/versions/1/probe")
        assert response.status_code == 200, response.text
        found = response.json()
        assert found["passed"] is True
        assert found["difference"] > found["noise"]


@pytest.mark.parametrize("model", ["base", "with-head"])
def test_generating_is_refused_with_a_code(classifier: Classifier, model: str) -> None:
    response = classifier.server.client.post("/generate", json={"model": model, "prompt": "a"})
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "generation_unsupported"


def test_a_head_for_other_labels_is_refused(classifier: Classifier, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    adapters = classifier.server.sources
    folder = adapters / "more-labels"
    folder.mkdir()
    for file in (adapters / "with-head").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    weights = folder / "adapter_model.safetensors"
    tensors = load_file(weights)
    name = "base_model.model.score.weight"
    tensors[name] = tensors[name].repeat(2, 1)
    save_file(tensors, weights)
    assert classifier.server.add("more-labels", folder) == "shape_mismatch"
