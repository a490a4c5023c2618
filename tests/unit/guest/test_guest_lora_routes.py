"""vLLM's load and unload on a guest: what the registry is asked, and what its callers are told."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import httpx
import pytest
from vllm.entrypoints.openai.models.serving import ErrorResponse, OpenAIServingModels
from vllm.entrypoints.serve.lora.protocol import LoadLoRAAdapterRequest, UnloadLoRAAdapterRequest
from vllm.exceptions import GracefulHTTPError
from vllm.lora.request import LoRARequest

from guest.lora_routes import LoraRoutes
from guest.resolver import RegistryResolver
from tests.support.servers.scripted_http import Answers, answering


class Resolver:
    def __init__(self) -> None:
        self.updated: list[str] = []
        self.error: Exception | None = None

    async def update(self, name: str) -> None:
        self.updated.append(name)
        if self.error is not None:
            raise self.error


class Models:
    """The used part of vLLM's `OpenAIServingModels`; the real one is in tests/e2e/fleet."""

    def __init__(self) -> None:
        self.lora_requests = {"module": LoRARequest("module", 1, "/module")}
        self.resolved: list[str] = []
        self.by_vllm: list[str] = []

    def is_base_model(self, name: str) -> bool:
        return name == "base"

    async def resolve_lora(self, name: str) -> Any:
        self.resolved.append(name)

    async def load_lora_adapter(self, request: Any, base_model_name: str | None = None) -> Any:
        self.by_vllm.append(request.lora_name)
        return "vllm"

    async def unload_lora_adapter(self, request: Any) -> Any:
        self.by_vllm.append(request.lora_name)
        own = request.lora_name in ("module", "base", "")
        return "vllm" if own else await vllms_unload(self, request)


@pytest.fixture
def registry() -> Iterator[Answers]:
    with answering() as answers:
        yield answers


@pytest.fixture
def resolver() -> Resolver:
    return Resolver()


@pytest.fixture
async def models(registry: Answers, resolver: Resolver) -> AsyncIterator[Models]:
    found = Models()
    headers = {"authorization": "Bearer adp_k"}
    async with httpx.AsyncClient(base_url=registry.url, headers=headers, timeout=60) as http:
        LoraRoutes(http, cast("RegistryResolver", resolver)).take_over(found)
        yield found


def asking(name: str, path: str = "org/repo", **more: Any) -> LoadLoRAAdapterRequest:
    return LoadLoRAAdapterRequest(lora_name=name, lora_path=path, **more)


def refused(answer: object) -> dict[str, Any]:
    assert isinstance(answer, ErrorResponse), answer
    error: dict[str, Any] = answer.model_dump()["error"]
    return error


@pytest.mark.parametrize("in_place", [False, True])
async def test_a_load_is_the_registrys_and_then_served_here(
    models: Models, registry: Answers, resolver: Resolver, in_place: bool
) -> None:
    registry.will_say(200, b"Success: added")
    said = await models.load_lora_adapter(asking("Org/A", load_inplace=in_place))
    assert said == "Success: added"
    body = {"lora_name": "Org/A", "lora_path": "org/repo", "load_inplace": in_place}
    assert registry.asked == [("POST", "/v1/load_lora_adapter", body)]
    assert registry.keys == ["Bearer adp_k"]
    assert (resolver.updated, models.resolved) == (["Org/A"], ["Org/A"])


async def test_an_unload_is_the_registrys_and_then_seen_here(
    models: Models, registry: Answers, resolver: Resolver
) -> None:
    registry.will_say(200, b"Success: removed")
    said = await models.unload_lora_adapter(UnloadLoRAAdapterRequest(lora_name="bot"))
    assert said == "Success: removed"
    assert registry.asked == [("POST", "/v1/unload_lora_adapter", {"lora_name": "bot"})]
    assert resolver.updated == ["bot"]


@pytest.mark.parametrize("name", ["module", "base", ""])
async def test_the_command_lines_modules_and_the_base_stay_vllms(
    models: Models, registry: Answers, name: str
) -> None:
    assert await models.load_lora_adapter(asking(name, load_inplace=True)) == "vllm"
    unloading = UnloadLoRAAdapterRequest(lora_name=name)
    assert await models.unload_lora_adapter(unloading) == "vllm"
    assert (models.by_vllm, registry.asked) == ([name, name], [])


def vllms_unload(models: Models, request: UnloadLoRAAdapterRequest) -> Any:
    """vLLM's own, by the same table."""
    real: Any = object.__new__(OpenAIServingModels)
    real.lora_requests = models.lora_requests
    real.lora_resolver_lock = defaultdict(asyncio.Lock)
    return real.unload_lora_adapter(request)


UNKNOWN = {"message": "no bot", "type": "NotFoundError", "code": "unknown_adapter"}


async def test_an_unload_of_what_is_gone_is_refused_in_vllms_words(
    models: Models, registry: Answers
) -> None:
    """The registry's server may have unloaded it, or another guest."""
    registry.will_say(404, {"error": UNKNOWN})
    unloading = UnloadLoRAAdapterRequest(lora_name="bot")
    error = refused(await models.unload_lora_adapter(unloading))
    assert (error["code"], error["type"]) == (404, "NotFoundError")
    assert error["message"] == "The lora adapter 'bot' cannot be found."


async def test_what_is_gone_from_the_registry_is_unloaded_here(
    models: Models, registry: Answers
) -> None:
    """Names are followed each second: until then it is served."""
    models.lora_requests["bot"] = LoRARequest("bot:1", 2, "/bot")
    registry.will_say(404, {"error": UNKNOWN})
    said = await models.unload_lora_adapter(UnloadLoRAAdapterRequest(lora_name="bot"))
    assert said == "Success: LoRA adapter 'bot' removed successfully."
    assert "bot" not in models.lora_requests


OPENAI = {"error": {"message": "it is there", "type": "InvalidUserInput", "code": "already_loaded"}}
PROBLEM = {"type": "about:blank", "status": 403, "detail": "no", "code": "scope_missing"}


@pytest.mark.parametrize(
    ("said", "code", "reason", "says"),
    [
        ((400, OPENAI), 400, "already_loaded", "it is there"),
        ((403, PROBLEM), 403, "scope_missing", "ADAPTRY_GUEST_API_KEY needs the scope publish"),
        ((401, {**PROBLEM, "code": "key_missing"}), 403, "key_missing", "ADAPTRY_GUEST_API_KEY"),
        ((404, b"<html>"), 502, "registry_unavailable", "this is no registry"),
        ((204, b""), 502, "registry_unavailable", "this is no registry"),
        ((503, b"<html>"), 502, "registry_unavailable", "the registry answers 503"),
        ((520, {"code": "origin", "detail": "unknown"}), 502, "origin", "unknown"),
    ],
)
async def test_a_refusal_is_vllms_with_the_registrys_reason(
    models: Models, registry: Answers, said: tuple[int, object], code: int, reason: str, says: str
) -> None:
    registry.will_say(*said)
    error = refused(await models.load_lora_adapter(asking("bot")))
    assert (error["code"], error["reason"]) == (code, reason)
    assert says in error["message"]
    assert models.resolved == [], "nothing is to be served"


async def test_a_registry_that_takes_longer_is_not_called_away(models: Models) -> None:
    def late(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("", request=request)

    async with httpx.AsyncClient(
        base_url="http://registry", transport=httpx.MockTransport(late)
    ) as http:
        LoraRoutes(http, cast("RegistryResolver", Resolver())).take_over(models)
        error = refused(await models.load_lora_adapter(asking("bot")))
    assert (error["code"], error["reason"]) == (503, "registration_pending")
    assert "goes on" in error["message"]


async def test_a_registry_that_is_away_is_a_503(models: Models, registry: Answers) -> None:
    registry.shutdown()
    registry.server_close()
    error = refused(await models.load_lora_adapter(asking("bot")))
    assert (error["code"], error["reason"]) == (503, "registry_unavailable")
    assert "onnect" in error["message"], "why"
    assert str(registry.server_port) not in error["message"]


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        (GracefulHTTPError("of rank 64", 503), 503),
        (OSError("disk full"), 503),
        (ValueError("no such module"), 503),
    ],
)
async def test_what_is_registered_but_cant_be_served_here_says_so(
    models: Models, registry: Answers, resolver: Resolver, cause: Exception, code: int
) -> None:
    registry.will_say(200, b"Success: added")
    resolver.error = cause
    error = refused(await models.load_lora_adapter(asking("bot")))
    assert error["code"] == code
    assert "bot is registered, but" in error["message"]
    assert str(cause) in error["message"]


async def test_what_vllm_does_not_accept_keeps_no_unload_from_its_answer(
    models: Models, registry: Answers, resolver: Resolver
) -> None:
    registry.will_say(200, b"Success: removed")
    resolver.error = ValueError("no such module")
    unloading = UnloadLoRAAdapterRequest(lora_name="bot")
    assert await models.unload_lora_adapter(unloading) == "Success: removed"
