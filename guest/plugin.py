"""Entry point of the plugin, called by vLLM in each of its processes: `vllm.general_plugins`."""

import functools
import multiprocessing
import os
from typing import Any

NAME = "adaptry"
REGISTRY = "ADAPTRY_GUEST_REGISTRY"
_WITHOUT_REQUESTS = ("EngineCore", "Worker")  # processes that serve no requests


def register() -> None:
    """Register the resolver, if a registry is configured. Idempotent."""
    process = multiprocessing.current_process().name
    if not os.environ.get(REGISTRY) or any(name in process for name in _WITHOUT_REQUESTS):
        return
    from vllm.entrypoints.openai.models.serving import OpenAIServingModels  # noqa: PLC0415
    from vllm.lora.resolver import LoRAResolverRegistry  # noqa: PLC0415

    if NAME in LoRAResolverRegistry.get_supported_resolvers():
        return
    resolver = _resolver()
    LoRAResolverRegistry.register_resolver(NAME, resolver)
    made = OpenAIServingModels.__init__

    @functools.wraps(made)
    def make(self: Any, *args: Any, **options: Any) -> None:
        made(self, *args, **options)
        resolver.models = self

    OpenAIServingModels.__init__ = make


def _resolver() -> Any:
    from adaptry.client import Client  # noqa: PLC0415
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
    return RegistryResolver(registry, settings.follow_seconds, settings.base_id)
