"""Body limits: the largest request body for each route."""

from starlette.middleware import Middleware
from starlette.types import Scope

from engine.settings import EngineSettings
from registry.http.body_limit import BodyLimit, BodyLimitMiddleware, LimitOf
from registry.http.body_memory import BodyMemory
from registry.http.headers import is_form
from registry.http.problems import route_path
from registry.settings import RegistrySettings
from registry.sources.base import MAX_FIELDS_BYTES, MAX_UNCOUNTED_BYTES


def create_body_limit(
    settings: EngineSettings, registry_settings: RegistrySettings, *, is_replica: bool = False
) -> Middleware:
    """To be placed after authentication: without a valid key no body is read.

    `is_replica`: an ingress bounds the memory of all bodies, and knows whose they are.
    """
    return Middleware(
        BodyLimitMiddleware,
        limit_of=body_limits(settings, registry_settings),
        timeout_seconds=settings.body_timeout_seconds,
        memory=None if is_replica else BodyMemory(settings.body_memory()),
    )


def body_limits(settings: EngineSettings, registry_settings: RegistrySettings) -> LimitOf:
    """Uploads and imports are streamed to disk; the gateway reads what may reach the engine.

    The service that stores an upload has a lower limit, with its own error.
    """
    most = registry_settings.max_adapter_bytes + MAX_FIELDS_BYTES + MAX_UNCOUNTED_BYTES
    upload = BodyLimit(most, streamed=True, in_memory=False)
    archive = BodyLimit(registry_settings.max_import_bytes, streamed=True, in_memory=False)
    api = BodyLimit(settings.max_api_body_bytes)
    gateway = BodyLimit(settings.max_body_bytes, streamed=True)
    others = BodyLimit(settings.max_body_bytes)

    def limit_of(scope: Scope) -> BodyLimit:
        path, has_parts = route_path(scope), is_form(scope)
        if path == "/api/v1/import":
            return archive
        if path.startswith("/api/"):
            return upload if has_parts and path.endswith("/versions") else api
        return others if has_parts or scope["method"] != "POST" else gateway

    return limit_of
