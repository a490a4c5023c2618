"""Default adapter: answers requests that name the base model or nothing, if one is set."""

from collections.abc import Collection

from starlette.types import Scope

from engine.gateway.request_body import RequestBody
from engine.gateway.requested_model import SAGEMAKER_HEADER, read_requested_model
from engine.ports import Resolver
from registry.auth.caller import current_caller
from registry.errors import InvalidReference, RegistryError, UnknownAdapter
from registry.http.problems import route_path

_PATHS = frozenset(
    {
        *("/v1/completions", "/v1/chat/completions", "/v1/responses", "/v1/messages"),
        *("/v1/messages/count_tokens", "/v1/embeddings", "/generate", "/tokenize", "/invocations"),
        *("/pooling", "/classify", "/score", "/v1/score", "/rerank", "/v1/rerank", "/v2/rerank"),
    }
)


class DefaultAdapter:
    """`name`: what such a request means, a reference or a served name; None: the base model.

    It is resolved like any name, so a tenant's own served name of that text comes first, and its
    requests are for the base model where the name means nothing to it.
    """

    def __init__(self, name: str | None, resolver: Resolver, base_models: Collection[str]) -> None:
        self._name = name
        self._resolver = resolver
        self._base_models = base_models

    async def apply(self, scope: Scope, body: RequestBody) -> RequestBody:
        """The body, with the default adapter as `model` if that is what the request means.

        The scope then has no header that names another one.
        """
        if self._name is None or scope["method"] != "POST" or route_path(scope) not in _PATHS:
            return body
        model = read_requested_model(scope, body).model
        if not body.members or not (model is None or model in self._base_models):
            return body
        if not await self._is_known():
            return body
        # `/invocations` reads it before the body: it named the base model, or was empty
        scope["headers"] = [pair for pair in scope["headers"] if pair[0] != SAGEMAKER_HEADER]
        return body.with_model(self._name)

    async def adapter_for(self, model: str) -> str | None:
        """What a realtime session means by `model`; None: the base model."""
        if model and model not in self._base_models:
            return model
        return self._name if await self._is_known() else None

    async def _is_known(self) -> bool:
        """To the caller; also if the request is refused with it."""
        if self._name is None:
            return False
        if current_caller().tenant is not None:
            try:
                await self._resolver.resolve(self._name)
            except (UnknownAdapter, InvalidReference):
                return False
            except RegistryError:
                pass
        return True
