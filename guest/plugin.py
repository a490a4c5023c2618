"""Entry point of the plugin, called by vLLM in each of its processes: `vllm.general_plugins`."""

import functools
import logging
import multiprocessing
import os
from typing import Any

logger = logging.getLogger(__name__)

NAME = "adaptry"
REGISTRY = "ADAPTRY_GUEST_REGISTRY"
SKIPS_NAMES = "VLLM_SKIP_MODEL_NAME_VALIDATION"
_WITHOUT_REQUESTS = ("EngineCore", "Worker")  # processes that serve no requests


def register() -> None:
    """Register the resolver, if a registry is configured. Idempotent."""
    process = multiprocessing.current_process().name
    if not os.environ.get(REGISTRY) or any(name in process for name in _WITHOUT_REQUESTS):
        return
    _check_every_name()
    from vllm.entrypoints.openai.models.serving import OpenAIServingModels  # noqa: PLC0415
    from vllm.lora.resolver import LoRAResolverRegistry  # noqa: PLC0415

    if NAME in LoRAResolverRegistry.get_supported_resolvers():
        return
    resolver, routes = _parts()
    LoRAResolverRegistry.register_resolver(NAME, resolver)
    made = OpenAIServingModels.__init__
    load_modules = OpenAIServingModels.init_static_loras

    @functools.wraps(made)
    def make(self: Any, *args: Any, **options: Any) -> None:
        made(self, *args, **options)
        resolver.take_over(self)

    @functools.wraps(load_modules)
    async def load_static(self: Any) -> None:
        await load_modules(self)
        routes.take_over(self)

    OpenAIServingModels.__init__ = make
    OpenAIServingModels.init_static_loras = load_static


def _check_every_name() -> None:
    """With this, vLLM asks no resolver: the base model would answer for each of our adapters."""
    if os.environ.pop(SKIPS_NAMES, None) is not None:
        logger.warning("%s is not heeded: the registry's names mean its adapters", SKIPS_NAMES)


def _parts() -> tuple[Any, Any]:
    """The resolver, and the routes that load and unload."""
    import httpx  # noqa: PLC0415

    from adaptry.client import Client  # noqa: PLC0415
    from adaptry.client.transport.http import Options  # noqa: PLC0415
    from guest.lora_routes import LoraRoutes  # noqa: PLC0415
    from guest.registry_client import RegistryClient  # noqa: PLC0415
    from guest.resolver import RegistryResolver  # noqa: PLC0415
    from guest.settings import GuestSettings  # noqa: PLC0415
    from registry.storage.local_copy import LocalCopyCache  # noqa: PLC0415

    settings = GuestSettings()
    assert settings.registry is not None
    key = None if settings.api_key is None else settings.api_key.get_secret_value()
    client = Client(settings.registry, api_key=key)
    files = LocalCopyCache(settings.files.expanduser(), settings.files_bytes)
    registry = RegistryClient(client, files)
    resolver = RegistryResolver(registry, settings.follow_seconds, settings.base_id)
    http = httpx.AsyncClient(
        **Options(settings.registry, key, settings.load_seconds).client_arguments()
    )
    return resolver, LoraRoutes(http, resolver)
