"""An embedding model over HTTP: every route with adapters by name, through two slots."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.adapters.peft_kinds import Peft, lora
from tests.support.adapters.tiny_bases import BASES
from tests.support.vllm.pooling_routes import routes_of, wrong_routes
from tests.support.vllm.tiny_engines import ServedBase, served_base

pytestmark = [pytest.mark.servers("bases")]

TARGETS = {"one": ["q_proj"], "two": ["v_proj"], "three": ["o_proj", "down_proj"]}


@dataclass
class Embedder:
    server: ServedBase
    peft: Peft
    adapters: dict[str, Path | None]


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedder]:
    base, folder = BASES["qwen3-embed"], tmp_path_factory.mktemp("embedder")
    model = base.save(folder / "base")
    peft = Peft(model)
    adapters: dict[str, Path | None] = {"base": None}
    with served_base(folder, model, folder / "adapters", dict(base.engine)) as server:
        for name, modules in TARGETS.items():
            adapter = lora(target_modules=modules).save(model, folder / "adapters" / name)
            assert server.add(name, adapter) is None
            adapters[name] = adapter
        yield Embedder(server, peft, adapters)


def test_every_route_answers_as_peft(embedder: Embedder) -> None:
    client = embedder.server.client
    for name, adapter in embedder.adapters.items():
        assert dict(wrong_routes(client, name, embedder.peft, adapter)) == {}, name


def test_adapters_and_the_base_model_in_one_batch_keep_their_embeddings(
    embedder: Embedder,
) -> None:
    route = routes_of(embedder.peft)["/v1/embeddings"]
    right = {name: route.right(embedder.peft, path) for name, path in embedder.adapters.items()}
    asked = list(right) * 12
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(embedder.server.answer, asked))
    for name, found in zip(asked, answers, strict=True):
        assert found.logprobs == pytest.approx(right[name], abs=2e-3), name


def test_a_response_names_its_version(embedder: Embedder) -> None:
    for path, route in routes_of(embedder.peft).items():
        response = embedder.server.client.post(path, json={"model": "two", **route.body})
        assert response.headers["x-adaptry-version"] == "two:1", path


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/generate", {"prompt": "a"}),
        ("/v1/completions", {"prompt": "a"}),
        ("/classify", {"input": "a"}),
        ("/v1/systemone", {"messages": [{"role": "user", "content": "a"}]}),
    ],
)
def test_what_the_engine_does_not_do_is_refused(
    embedder: Embedder, path: str, body: dict[str, Any]
) -> None:
    response = embedder.server.client.post(path, json={"model": "one", **body})
    assert 400 <= response.status_code < 500 or response.status_code == 501, response.text
    assert response.json()["error"]["code"]
