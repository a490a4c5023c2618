"""vLLM's resolver over a registry: its results, and how names follow their aliases."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry
from vllm.entrypoints.openai.models.serving import OpenAIServingModels
from vllm.exceptions import GracefulHTTPError
from vllm.lora.request import LoRARequest
from vllm.lora.resolver import LoRAResolver

from adaptry.client import NoAnswer, PullFailed
from guest.failures import CantServe
from guest.metrics import GuestMetrics
from guest.registry_client import BelongsElsewhere, RegistryClient
from guest.resolver import RegistryResolver
from guest.setbacks import Setbacks
from registry.inspection.base_identity import BaseIdentity, identity_of
from registry.storage.local_copy import LocalCopyCache

ROOT = Path(__file__).resolve().parents[3]
AWAY = NoAnswer("http://registry", "refused")


@dataclass
class Registry:
    """Replaces `RegistryClient`. `means`: a reference or an error by name."""

    means: dict[str, str | Exception] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    kind: str = "lora"
    asked_for: set[str] = field(default_factory=set)
    slow: dict[str, threading.Event] = field(default_factory=dict)  # fetched once it is set
    fetched: list[str] = field(default_factory=list)
    files: LocalCopyCache = field(default_factory=lambda: LocalCopyCache(Path("unused"), 1))

    def find(self, name: str, base: BaseIdentity) -> Any:
        self.asked_for.add(str(base))
        found = self.means.get(name)
        if isinstance(found, Exception):
            raise found
        if found is None:
            return None
        return SimpleNamespace(reference=found, digest=f"d-{found}", rank=8, kind=self.kind)

    def fetch(self, version: Any) -> Path:
        self.fetched.append(version.reference)
        if (arrived := self.slow.get(version.reference)) is not None:
            assert arrived.wait(30)
        if version.reference in self.broken:
            raise PullFailed("not what was registered")
        return Path(f"/files/{version.digest}")


class Models:
    """The used part of vLLM's `OpenAIServingModels`; the real one is in tests/e2e."""

    def __init__(self) -> None:
        self.lora_requests: dict[str, LoRARequest] = {}
        self.refused: set[str] = set()
        self.added: list[str] = []
        self.tried: list[str] = []
        self.engine_client = self
        self.vllm_config = SimpleNamespace(
            lora_config=SimpleNamespace(max_lora_rank=8),
            model_config=SimpleNamespace(model=str(ROOT / "demo" / "base"), revision=None),
        )
        self.lora_id_counter = self
        self._last = 10

    def inc(self, by: int) -> int:
        self._last += by
        return self._last

    async def add_lora(self, request: LoRARequest) -> None:
        self.tried.append(request.lora_name)
        if request.lora_name in self.refused:
            raise RuntimeError("vLLM does not take it")
        self.added.append(request.lora_name)

    def means(self, name: str) -> str | None:
        request = self.lora_requests.get(name)
        return None if request is None else request.lora_name


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def models() -> Models:
    return Models()


@pytest.fixture
def resolver(registry: Registry, models: Models) -> RegistryResolver:
    metrics = GuestMetrics(CollectorRegistry())
    made = RegistryResolver(cast("RegistryClient", registry), 0.01, metrics=metrics)
    made.models = models
    return made


async def ask(resolver: RegistryResolver, models: Models, name: str) -> LoRARequest | None:
    """As vLLM does: the result is stored under the requested name."""
    request = await resolver.resolve_lora("base", name)
    if request is not None:
        models.lora_requests[name] = request
    return request


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.005)


async def test_a_version_has_its_own_name_under_any_requested_name(
    resolver: RegistryResolver, registry: Registry, models: Models
) -> None:
    registry.means = {"bot": "bot:3", "bot@prod": "bot:3"}
    for name in registry.means:
        request = await ask(resolver, models, name)
        assert request is not None
        assert (request.lora_name, request.lora_path) == ("bot:3", "/files/d-bot:3")


async def test_names_unknown_to_the_registry_are_left_to_other_resolvers(
    resolver: RegistryResolver, models: Models
) -> None:
    assert await ask(resolver, models, "nobody") is None


@pytest.mark.parametrize("cause", ["registry", "files"])
async def test_a_registry_failure_is_a_503_rather_than_a_404(
    resolver: RegistryResolver, registry: Registry, models: Models, cause: str
) -> None:
    registry.means["bot"] = AWAY if cause == "registry" else "bot:1"
    registry.broken = {"bot:1"}
    with pytest.raises(GracefulHTTPError) as refused:
        await ask(resolver, models, "bot")
    assert refused.value.http_status == 503


async def test_an_activated_adapter_is_a_503_before_it_is_fetched(
    resolver: RegistryResolver, registry: Registry, models: Models
) -> None:
    """vLLM 0.26 would apply it from the prompt's start on, without a word."""
    registry.means["bot"] = "bot:1"
    registry.broken = {"bot:1"}  # fetching it would fail differently
    registry.kind = "activated"
    with pytest.raises(GracefulHTTPError) as refused:
        await ask(resolver, models, "bot")
    assert refused.value.http_status == 503
    assert "activated" in str(refused.value)


async def test_an_adapter_over_this_engine_s_rank_is_a_503_before_it_is_fetched(
    resolver: RegistryResolver, registry: Registry, models: Models
) -> None:
    registry.means["bot"] = "bot:1"
    registry.broken = {"bot:1"}  # fetching it would fail differently
    models.vllm_config.lora_config.max_lora_rank = 4
    with pytest.raises(GracefulHTTPError, match="rank 8, over --max-lora-rank 4") as refused:
        await ask(resolver, models, "bot")
    assert refused.value.http_status == 503


async def test_a_name_follows_its_alias(
    resolver: RegistryResolver, registry: Registry, models: Models
) -> None:
    registry.means["bot"] = "bot:1"
    before = await ask(resolver, models, "bot")
    registry.means["bot"] = "bot:2"
    await until(lambda: models.means("bot") == "bot:2")
    assert models.added == ["bot:2"], "it is in memory before it is asked for"
    assert models.lora_requests["bot"].lora_int_id == 11
    assert before is not None
    assert before.lora_name == "bot:1", "a running request keeps its version"
    assert resolver._in_use() == {"d-bot:2"}


async def test_an_adapter_that_vllm_refuses_changes_nothing_and_is_retried(
    resolver: RegistryResolver, registry: Registry, models: Models
) -> None:
    registry.means = {"bot": "bot:1", "other": "other:1"}
    for name in list(registry.means):
        await ask(resolver, models, name)
    models.refused = {"bot:2"}
    registry.means = {"bot": "bot:2", "other": "other:2"}
    await until(lambda: models.means("other") == "other:2")
    assert models.means("bot") == "bot:1"
    models.refused = set()
    await until(lambda: models.means("bot") == "bot:2")


async def test_a_version_that_is_refused_is_said_once_and_tried_ever_more_seldom(
    resolver: RegistryResolver,
    registry: Registry,
    models: Models,
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry.means = {"bot": "bot:1", "bot@prod": "bot:1"}
    for name in list(registry.means):
        await ask(resolver, models, name)
    models.refused = {"bot:2"}
    registry.means = dict.fromkeys(registry.means, "bot:2")
    await until(lambda: len(models.tried) >= 3)
    await asyncio.sleep(0.2)  # twenty rounds of both names
    assert len(models.tried) < 20
    (record,) = caplog.records
    assert record.exc_info is None
    assert "vLLM refuses bot:2: vLLM does not take it" in record.getMessage()
    assert models.means("bot") == "bot:1"
    registry.means = dict.fromkeys(registry.means, "bot:3")
    await until(lambda: {models.means(name) for name in registry.means} == {"bot:3"})
    assert len(caplog.records) == 1


async def test_a_load_by_an_operator_waits_for_no_pause(
    resolver: RegistryResolver, registry: Registry, models: Models
) -> None:
    registry.means["bot"] = "bot:1"
    resolver._follow_seconds = 60
    await ask(resolver, models, "bot")
    models.refused = {"bot:2"}
    registry.means["bot"] = "bot:2"
    for tried in (1, 2):
        with pytest.raises(CantServe):
            await resolver.update("bot")
        assert models.tried == ["bot:2"] * tried


async def test_a_client_that_asks_again_is_no_further_attempt(
    resolver: RegistryResolver, registry: Registry, models: Models
) -> None:
    """A full disk would be filled and emptied with each request."""
    resolver._setbacks = Setbacks(GuestMetrics(CollectorRegistry()), 60)
    registry.means["bot"] = "bot:1"
    registry.broken = {"bot:1"}
    for _ in range(5):
        with pytest.raises(GracefulHTTPError, match="not what was registered"):
            await ask(resolver, models, "bot")
    assert registry.fetched == ["bot:1"]


@pytest.fixture
def collectors() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def table(registry: Registry, models: Models, collectors: CollectorRegistry) -> Any:
    """vLLM's own, which asks the resolver of a guest, over an engine that may refuse."""
    metrics = GuestMetrics(collectors)
    resolver = RegistryResolver(cast("RegistryClient", registry), 0.05, metrics=metrics)
    engine: Any = models
    engine.model_config = models.vllm_config.model_config
    engine.renderer = engine.input_processor = None
    made = OpenAIServingModels(engine, [])
    made.lora_resolvers = [resolver]
    resolver.take_over(made)
    return made


async def test_what_vllm_refuses_at_the_first_request_is_said_counted_and_tried_again(
    table: Any,
    registry: Registry,
    models: Models,
    collectors: CollectorRegistry,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """vLLM answers 400 then, without a reason."""
    registry.means["bot"] = "bot:1"
    models.refused = {"bot:1"}
    for _ in range(3):
        with pytest.raises(GracefulHTTPError, match="vLLM refuses bot:1: vLLM does not") as refused:
            await table.resolve_lora("bot")
        assert refused.value.http_status == 503
    assert models.tried == ["bot:1"], "it was not due yet"
    counted = collectors.get_sample_value("adaptry_guest_refusals_total", {"cause": "engine"})
    assert counted == 3
    assert [record.name for record in caplog.records].count("guest.setbacks") == 1
    models.refused = set()
    await asyncio.sleep(0.1)
    served = await table.resolve_lora("bot")
    assert (served.lora_name, table.lora_requests["bot"]) == ("bot:1", served)


async def test_what_the_guest_did_not_find_stays_vllms_to_answer(
    table: Any, registry: Registry, models: Models
) -> None:
    class Other(LoRAResolver):  # type: ignore[misc]  # vLLM's
        async def resolve_lora(self, base_model_name: str, lora_name: str) -> LoRARequest:
            return LoRARequest("theirs", 1, "/theirs")

    assert (await table.resolve_lora("nobody")).error.code == 404
    table.lora_resolvers.append(Other())
    models.refused = {"theirs"}
    assert (await table.resolve_lora("nobody")).error.code == 400
    registry.means["bot"] = "bot:1"
    models.refused = {"bot:1"}
    assert (await table.resolve_lora("bot")).lora_name == "theirs", "another one has it too"


async def test_a_name_no_longer_served_is_resolved_again(
    resolver: RegistryResolver, registry: Registry, models: Models
) -> None:
    registry.means["bot"] = "bot:1"
    await ask(resolver, models, "bot")
    del registry.means["bot"]
    await until(lambda: "bot" not in models.lora_requests)
    assert await ask(resolver, models, "bot") is None


async def test_an_unreachable_registry_changes_nothing(
    resolver: RegistryResolver, registry: Registry, models: Models
) -> None:
    registry.means["bot"] = "bot:1"
    await ask(resolver, models, "bot")
    registry.means["bot"] = AWAY
    await asyncio.sleep(0.1)
    assert models.means("bot") == "bot:1"
    registry.means["bot"] = "bot:2"
    await until(lambda: models.means("bot") == "bot:2")


async def test_the_registry_is_asked_for_versions_of_this_engine_s_base_model(
    resolver: RegistryResolver, registry: Registry, models: Models
) -> None:
    registry.means["bot"] = "bot:1"
    await ask(resolver, models, "bot")
    folder = ROOT / "demo" / "base"
    assert registry.asked_for == {str(identity_of(str(folder), folder))}


@pytest.mark.parametrize("declared", ["llama-3", f"llama-3#{'0' * 64}"])
async def test_the_base_model_may_be_declared(
    registry: Registry, models: Models, declared: str
) -> None:
    registry.means["bot"] = "bot:1"
    metrics = GuestMetrics(CollectorRegistry())
    resolver = RegistryResolver(cast("RegistryClient", registry), 1, declared, metrics)
    resolver.models = models
    await ask(resolver, models, "bot")
    (asked,) = registry.asked_for
    assert asked.startswith(declared)


async def test_a_version_of_another_base_model_is_refused_and_dropped(
    resolver: RegistryResolver, registry: Registry, models: Models
) -> None:
    registry.means = {"bot": BelongsElsewhere("bot:1 belongs to another"), "other": "other:1"}
    with pytest.raises(GracefulHTTPError, match="belongs to another") as refused:
        await ask(resolver, models, "bot")
    assert refused.value.http_status == 409
    await ask(resolver, models, "other")
    registry.means["other"] = BelongsElsewhere("rechecked for another")
    await until(lambda: "other" not in models.lora_requests)


async def test_a_slow_fetch_holds_up_no_other_name(
    resolver: RegistryResolver, registry: Registry, models: Models
) -> None:
    """Neither those that are followed nor loads and unloads, which bring a name up to date."""
    registry.means = {"big": "big:1", "bot": "bot:1", "gone": "gone:1"}
    for name in list(registry.means):
        await ask(resolver, models, name)
    arrived = registry.slow["big:2"] = threading.Event()
    registry.means["big"] = "big:2"
    await until(lambda: "big:2" in registry.fetched)
    try:
        registry.means |= {"bot": "bot:2"}
        await until(lambda: models.means("bot") == "bot:2")
        registry.means.pop("gone")
        async with asyncio.timeout(10):
            await resolver.update("gone")
        assert models.means("gone") is None
        assert models.means("big") == "big:1"
        running = len(asyncio.all_tasks())
        await asyncio.sleep(0.2)  # twenty rounds
        assert len(asyncio.all_tasks()) <= running + len(registry.means), "one for each name"
    finally:
        arrived.set()
    await until(lambda: models.means("big") == "big:2")
    assert registry.fetched.count("big:2") == 1, "it is followed once at a time"


async def test_slow_fetches_leave_the_threads_that_answer_everything_else(
    resolver: RegistryResolver, registry: Registry, models: Models
) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    registry.means = {"big": "big:1", "bot": "bot:1"}
    arrived = registry.slow["big:1"] = threading.Event()
    loading = asyncio.create_task(ask(resolver, models, "big"))
    try:
        await until(lambda: "big:1" in registry.fetched)
        async with asyncio.timeout(10):
            assert await ask(resolver, models, "bot") is not None
    finally:
        arrived.set()
    assert await loading is not None


async def test_changes_of_one_name_come_one_after_the_other(
    resolver: RegistryResolver, registry: Registry, models: Models
) -> None:
    """Else the slower of two would bring back what the later one has replaced."""
    registry.means["bot"] = "bot:1"
    resolver._follow_seconds = 60
    await ask(resolver, models, "bot")
    arrived = registry.slow["bot:2"] = threading.Event()
    registry.means["bot"] = "bot:2"
    first = asyncio.create_task(resolver.update("bot"))
    await until(lambda: "bot:2" in registry.fetched)
    registry.means["bot"] = "bot:3"
    second = asyncio.create_task(resolver.update("bot"))
    await asyncio.sleep(0.05)
    assert "bot:3" not in registry.fetched
    arrived.set()
    await asyncio.gather(first, second)
    assert models.means("bot") == "bot:3"
