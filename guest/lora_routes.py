"""Load and unload routes of a guest: vLLM's own, executed by the registry.

vLLM would load any folder that the caller names, under any name, also one of the registry's. Here
the registry does what `adaptry serve` does with the same body, by the guest's key, and the guest
then serves the result. What `--lora-modules` loaded stays vLLM's.
"""

import logging
from http import HTTPStatus
from typing import Any

import httpx
from vllm.entrypoints.openai.models import serving

from adaptry.client import NoAnswer
from guest.failures import failure_of, one_line
from guest.http_errors import GracefulHTTPError
from guest.resolver import RegistryResolver
from registry.errors import UnknownAdapter

logger = logging.getLogger(__name__)

LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"


class LoraRoutes:
    """Replaces the two methods of vLLM's `OpenAIServingModels` that its routes call."""

    def __init__(self, http: httpx.AsyncClient, resolver: RegistryResolver) -> None:
        """`http`: of the registry, with the guest's key."""
        self._http = http
        self._resolver = resolver

    def take_over(self, models: Any) -> None:
        """Call it when `--lora-modules` are loaded: these go through the same methods."""
        own = frozenset(models.lora_requests)
        load_own, unload_own = models.load_lora_adapter, models.unload_lora_adapter

        def is_own(name: str) -> bool:
            return not name or name in own or models.is_base_model(name)

        async def load(request: Any, base_model_name: str | None = None) -> Any:
            if is_own(request.lora_name) or not request.lora_path:
                return await load_own(request, base_model_name)
            return await self._load(models, request)

        async def unload(request: Any) -> Any:
            if is_own(request.lora_name):
                return await unload_own(request)
            said = await self._unload(request.lora_name)
            # vLLM's own words, or the last of what the registry has dropped before
            return await unload_own(request) if is_unknown(said) else said

        models.load_lora_adapter = load
        models.unload_lora_adapter = unload

    async def _load(self, models: Any, request: Any) -> Any:
        """What vLLM's method returns: a sentence, or its ErrorResponse."""
        name = request.lora_name
        body = {
            "lora_name": name,
            "lora_path": request.lora_path,
            "load_inplace": request.load_inplace,
        }
        said = await self._ask(LOAD, body)
        if isinstance(said, str):
            try:
                await self._resolver.update(name)
                served = await models.resolve_lora(name)
            except GracefulHTTPError as error:
                return refusal(error.http_status, f"{name} is registered, but {error}")
            except Exception as error:  # also vLLM's, for an adapter that it does not accept
                failure = failure_of(error)
                logger.warning("%s can't be served: %s", name, failure.detail)
                return refusal(failure.status, f"{name} is registered, but {failure.said}")
            if isinstance(served, serving.ErrorResponse):
                return served
        return said

    async def _unload(self, name: str) -> Any:
        said = await self._ask(UNLOAD, {"lora_name": name})
        if isinstance(said, str):
            try:
                await self._resolver.update(name)
            except Exception as error:  # also vLLM's, if the name means another adapter now
                logger.warning("%s can't be brought up to date: %s", name, one_line(error))
        return said

    async def _ask(self, path: str, body: dict[str, object]) -> Any:
        try:
            response = await self._http.post(path, json=body)
        except httpx.ReadTimeout:
            late = "the registry has not finished yet, and goes on: send the request again"
            return refusal(503, late, "registration_pending")
        except httpx.HTTPError as error:
            away = NoAnswer(str(self._http.base_url), one_line(error))
            logger.warning("%s: %s", path, away)
            return refusal(503, failure_of(away).said, "registry_unavailable")
        return response.text if response.status_code == HTTPStatus.OK else refused_by(response)


def refused_by(response: httpx.Response) -> Any:
    """The registry's refusal as vLLM's ErrorResponse."""
    try:
        answer = response.json()
        error = answer.get("error", answer)  # a problem detail comes from before its routes
        message = str(error.get("message") or error["detail"])
        code = str(error["code"])
    except (ValueError, KeyError, AttributeError):
        found = f"the registry answers {response.status_code}"
        if response.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:  # of a proxy before it
            found = f"{response.url.host} answers {response.status_code}: this is no registry"
        return refusal(HTTPStatus.BAD_GATEWAY, found, "registry_unavailable")
    if response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        message += ". To load adapters here, ADAPTRY_GUEST_API_KEY needs the scope publish"
        return refusal(HTTPStatus.FORBIDDEN, message, code)
    known = {each.value for each in HTTPStatus}  # proxies have their own
    status = response.status_code if response.status_code in known else HTTPStatus.BAD_GATEWAY
    return refusal(status, message, code, str(error.get("type") or ""))


def is_unknown(said: object) -> bool:
    """Whether it is the registry's refusal of an adapter that it does not have or serve."""
    error = said.error if isinstance(said, serving.ErrorResponse) else None
    return getattr(error, "reason", None) == UnknownAdapter.code


def refusal(status: int, message: str, reason: str | None = None, kind: str = "") -> Any:
    """vLLM's `code` is the status; `reason` is ours."""
    error = {
        "message": message,
        "type": kind or HTTPStatus(status).phrase.replace(" ", ""),
        "code": int(status),
        **({} if reason is None else {"reason": reason}),
    }
    return serving.ErrorResponse.model_validate({"error": error})
