"""Chat template and sampling defaults of the version that a request is for.

vLLM's services have one chat template and one set of defaults each, the base model's, and read them
while they handle a request. Here they read the running request's instead, if its version brings its
own and its adapter serves them; what a request says itself still comes first.
"""

from collections.abc import Callable, Iterable
from typing import Any

from engine.gateway.request_context import current_request
from engine.types import AdapterVersion

_TEMPLATE, _DEFAULTS = "chat_template", "default_sampling_params"
_RENAMED = {"max_new_tokens": "max_tokens", "eos_token_id": "stop_token_ids"}  # as vLLM does


def serve_training_defaults(services: Iterable[object]) -> None:
    """Let each of vLLM's services that has the one or the other read the running request's."""
    for service in services:
        attributes = getattr(service, "__dict__", {})
        members = {}
        if isinstance(attributes.get(_DEFAULTS), dict):
            members[_DEFAULTS] = _property(_DEFAULTS, _sampling_defaults)
        if _TEMPLATE in attributes:
            members[_TEMPLATE] = _property(_TEMPLATE, _chat_template)
        if members:
            cls: Any = type(service)
            service.__class__ = type(cls.__name__, (cls,), members)


def _property(name: str, of_version: Callable[[Any, AdapterVersion], Any]) -> property:
    """It comes before the attribute of the instance, which stays the base model's."""

    def read(self: Any) -> Any:
        request = current_request()
        if request is None or request.version is None:
            return self.__dict__[name]
        return of_version(self.__dict__[name], request.version)

    def write(self: Any, value: Any) -> None:
        self.__dict__[name] = value

    return property(read, write)


def _chat_template(base: str | None, version: AdapterVersion) -> str | None:
    return base if version.chat_template is None else version.chat_template


def _sampling_defaults(base: dict[str, Any], version: AdapterVersion) -> dict[str, Any]:
    """vLLM reads it once for a request, and then eight names of it. Nearly no version has any."""
    if version.sampling_defaults is None:
        return base
    own = {_RENAMED.get(name, name): value for name, value in version.sampling_defaults.items()}
    return {**base, **own}
