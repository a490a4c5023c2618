"""Every way in does the same: what an adapter was trained with is compared, content is one version.

A folder, an upload, a push and an import; buckets, the Hub and web servers are in `tests/unit`.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from adaptry.client import AdaptryError, Client
from adaptry.importers.base import ForeignAdapter, export_entries
from adaptry.importers.folders import from_peft_folder
from registry.inspection.base_model import BaseModel
from registry.inspection.training import BaseTraining
from registry.inspection.training_files import NEW_EMBEDDINGS
from registry.storage.tar import tar_chunks
from tests.support.servers.registry_in_loop import Registry, running_registry

AdapterMaker = Callable[..., Path]
Way = Callable[[Registry, Path], Awaitable[None]]

VOCABULARY = 50_000  # so that a tokenizer is larger than a form's fields may be


@dataclass(frozen=True)
class Outcome:
    """`codes`: of the refusal, or of the remarks on the version."""

    number: int | None
    codes: frozenset[str]
    has_template: bool = False


@cache  # a megabyte
def tokenizer(first: str = "the", **added: int) -> str:
    tokens = [{"id": id_, "content": text} for text, id_ in added.items()]
    vocabulary = {f"{first} token number {n}": n for n in range(VOCABULARY)}
    return json.dumps({"model": {"vocab": vocabulary}, "added_tokens": tokens})


@pytest.fixture
def base_model(tmp_path: Path, base_model: BaseModel) -> BaseModel:
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"vocab_size": VOCABULARY}))
    (folder / "tokenizer.json").write_text(tokenizer())
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))
    (folder / "chat_template.jinja").write_text("the base's")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 2}))
    return replace(base_model, training=BaseTraining(folder))


@pytest.fixture
async def registry(
    database_url: str, tmp_path: Path, base_model: BaseModel
) -> AsyncIterator[Registry]:
    async with running_registry(database_url, tmp_path, base_model) as running:
        yield running


async def add(registry: Registry, folder: Path) -> None:
    await with_client(registry, lambda client: client.versions.register("bot", str(folder)))


async def upload(registry: Registry, folder: Path) -> None:
    files = [("files", (f.name, f.read_bytes())) for f in sorted(folder.iterdir())]
    answer = await registry.http.post("/adapters/bot/versions", files=files, timeout=30)
    if answer.is_error:
        raise Refused(answer.json()["code"])


async def push(registry: Registry, folder: Path) -> None:
    await with_client(registry, lambda client: client.versions.push("bot", folder))


async def import_folder(registry: Registry, folder: Path) -> None:
    (adapter,), _ = from_peft_folder(folder)
    await send(registry, adapter)


async def import_numbered(registry: Registry, folder: Path) -> None:
    """As from MLflow, where versions have numbers."""
    (adapter,), _ = from_peft_folder(folder)
    adapter.versions = [replace(adapter.versions[0], number=1)]
    await send(registry, adapter)


async def send(registry: Registry, adapter: ForeignAdapter) -> None:
    adapter.name = "bot"
    chunks = tar_chunks(export_entries([adapter], datetime.now(UTC)))
    url = registry.http.base_url
    with Client(f"http://{url.host}:{url.port}") as client:
        report = await asyncio.to_thread(client.transfer.import_archive, chunks)
    version = (await registry.http.get("/adapters/bot/versions")).json()["items"][-1]
    remarks = {remark["code"] for remark in version["inspection"]["remarks"]}
    if report.versions_added:
        assert report.remarks.keys() == remarks - {"engine_not_asked"}, "they are told, too"


WAYS: dict[str, Way] = {
    "add": add,
    "upload": upload,
    "push": push,
    "import": import_folder,
    "import with numbers": import_numbered,
}


class Refused(Exception):
    """With this code."""

    def __init__(self, code: str) -> None:
        self.code = code


async def with_client(registry: Registry, call: Callable[[Client], object]) -> None:
    url = registry.http.base_url
    with Client(f"http://{url.host}:{url.port}") as client:
        await asyncio.to_thread(call, client)


async def outcome(registry: Registry, way: str, folder: Path) -> Outcome:
    try:
        await WAYS[way](registry, folder)
    except (AdaptryError, Refused) as error:
        return Outcome(None, frozenset({str(getattr(error, "code", error))}))
    versions = (await registry.http.get("/adapters/bot/versions")).json()["items"]
    remarks = [remark["code"] for remark in versions[-1]["inspection"]["remarks"]]
    codes = frozenset(remarks) - {"engine_not_asked"}
    return Outcome(versions[-1]["number"], codes, versions[-1]["has_chat_template"])


@pytest.mark.parametrize("way", WAYS)
async def test_what_it_was_trained_with_is_compared(
    registry: Registry, make_adapter: AdapterMaker, tmp_path: Path, way: str
) -> None:
    folder = make_adapter("a")
    for file in (tmp_path / "base").iterdir():
        if file.name != "config.json":
            (folder / file.name).write_bytes(file.read_bytes())
    assert await outcome(registry, way, folder) == Outcome(1, frozenset()), "equal is silent"
    await registry.no_leftovers()


@pytest.mark.parametrize("way", WAYS)
async def test_what_differs_is_remarked_and_kept(
    registry: Registry, make_adapter: AdapterMaker, way: str
) -> None:
    folder = make_adapter("a")
    (folder / "tokenizer.json").write_text(tokenizer("another", **{"<tool>": VOCABULARY - 1}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<end>"}))
    (folder / "chat_template.jinja").write_text("its own")
    (folder / "generation_config.json").write_text(json.dumps({"temperature": 0.3}))
    assert (folder / "tokenizer.json").stat().st_size > 2**20
    differs = {"chat_template_differs", "tokenizer_differs", "tokens_added", "eos_differs"}
    expected = Outcome(1, frozenset({*differs, "sampling_differs"}), has_template=True)
    assert await outcome(registry, way, folder) == expected
    version = (await registry.http.get("/adapters/bot/versions/1")).json()
    assert version["sampling_defaults"] == {"temperature": 0.3}
    (digest,) = registry.kept()
    stored = registry.store / "adapters" / digest[:2] / digest
    assert {file.name for file in stored.iterdir() if not file.name.startswith(".")} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    await registry.no_leftovers()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("tokenizer.json", tokenizer(beyond=VOCABULARY), "tokens_beyond_vocabulary"),
        ("added_tokens.json", f'{{"<tool>": {VOCABULARY}}}', "tokens_beyond_vocabulary"),
        (NEW_EMBEDDINGS, "any", "new_embeddings"),
    ],
)
async def test_tokens_that_the_base_model_lacks_are_refused(
    registry: Registry, make_adapter: AdapterMaker, way: str, name: str, content: str, code: str
) -> None:
    folder = make_adapter("a")
    (folder / name).write_text(content)
    assert await outcome(registry, way, folder) == Outcome(None, frozenset({code}))
    assert (await registry.http.get("/adapters/bot")).status_code == 404
    await registry.no_leftovers()


def with_another_order(config: dict[str, Any]) -> dict[str, Any]:
    return config | {"target_modules": config["target_modules"][::-1]}


def by_a_newer_peft(config: dict[str, Any]) -> dict[str, Any]:
    """With fields that were not there before, off, and in another order."""
    newer = {"peft_version": "0.99.0", "use_dora": False, "target_parameters": None, "bias": "none"}
    return dict(sorted((config | newer).items(), reverse=True))


def unchanged(config: dict[str, Any]) -> dict[str, Any]:
    return config


def save_again(
    source: Path,
    folder: Path,
    change: Callable[[dict[str, Any]], dict[str, Any]],
    *,
    indent: int = 2,
    metadata: dict[str, str] | None = None,
) -> Path:
    folder.mkdir(parents=True)
    config = change(json.loads((source / "adapter_config.json").read_text()))
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=indent))
    tensors = load_file(source / "adapter_model.safetensors")
    save_file(tensors, folder / "adapter_model.safetensors", metadata)
    return folder


@pytest.mark.parametrize("way", WAYS)
async def test_what_was_only_saved_again_is_the_version_that_is_there(
    registry: Registry, make_adapter: AdapterMaker, way: str
) -> None:
    source = make_adapter("a")
    config = json.loads((source / "adapter_config.json").read_text())
    config["target_modules"] = ["q_proj", "k_proj"]
    (source / "adapter_config.json").write_text(json.dumps(config))
    await add(registry, source)
    again = source.with_name("again")
    for folder in (
        save_again(source, again / "1", with_another_order),
        save_again(source, again / "2", by_a_newer_peft),
        save_again(source, again / "3", unchanged, indent=7),
        save_again(source, again / "4", unchanged, metadata={"format": "np"}),
    ):
        assert (await outcome(registry, way, folder)).number == 1, folder.name
    await registry.keeps_one()
    other = save_again(source, again / "5", lambda config: config | {"lora_alpha": 3})
    if way != "import with numbers":
        assert (await outcome(registry, way, other)).number == 2


async def test_of_versions_that_say_the_same_an_import_takes_the_first(
    registry: Registry, make_adapter: AdapterMaker
) -> None:
    source = make_adapter("a")
    again = save_again(source, source.with_name("again"), by_a_newer_peft)
    (adapter,), _ = from_peft_folder(source)
    first = replace(adapter.versions[0], number=1)
    adapter.versions = [first, replace(first, number=2, folder=again)]
    adapter.aliases = {"prod": 2}
    await send(registry, adapter)
    versions = (await registry.http.get("/adapters/bot/versions")).json()["items"]
    assert [version["number"] for version in versions] == [1]
    assert (await registry.http.get("/adapters/bot/aliases/prod")).json()["version"] == 1


async def test_a_training_file_over_the_limit_counts_as_absent_with_a_remark(
    database_url: str, tmp_path: Path, base_model: BaseModel, make_adapter: AdapterMaker
) -> None:
    limit: dict[str, Any] = {"max_training_file_bytes": 1000}
    async with running_registry(database_url, tmp_path, base_model, **limit) as registry:
        for number, way in enumerate(("add", "upload", "push", "import"), 1):
            folder = make_adapter(way, seed=number)
            (folder / "chat_template.jinja").write_text("x" * 1001)
            expected = Outcome(number, frozenset({"training_unread"}))
            assert await outcome(registry, way, folder) == expected, way
            await registry.no_leftovers()


async def test_large_training_files_do_not_make_room_for_a_larger_adapter(
    database_url: str, tmp_path: Path, base_model: BaseModel, make_adapter: AdapterMaker
) -> None:
    folder = make_adapter("a")
    size = sum(file.stat().st_size for file in folder.iterdir())
    (folder / "tokenizer.json").write_text(tokenizer())
    limit: dict[str, Any] = {"max_adapter_bytes": size}
    async with running_registry(database_url, tmp_path, base_model, **limit) as registry:
        assert (await outcome(registry, "push", folder)).number == 1
        (folder / "adapter_model.safetensors").write_bytes(bytes(3 * 2**20))
        assert (await outcome(registry, "push", folder)).codes == {"source_too_large"}
