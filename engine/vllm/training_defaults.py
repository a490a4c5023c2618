"""Chat template and sampling defaults of the version that a request is for.

vLLM's services have one chat template and one set of defaults each, the base model's, and read them
while they handle a request. Here they read the running request's instead, if its version brings its
own and its adapter serves them; what a request says itself still comes first.
"""

from collections.abc import Iterable
from typing import Any

from engine.gateway.request_context import current_request
from engine.types import AdapterVersion

_TEMPLATE, _DEFAULTS = "chat_template", "default_sampling_params"
_RENAMED = {"max_new_tokens": "max_tokens", "eos_token_id": "stop_token_ids"}  # as vLLM does


def serve_training_defaults(services: Iterable[object]) -> None:
    """Let each of vLLM's services that has the one or the other read the running request's."""
    for service in services:
        attributes = getattr(service, "__dict__", {})
        if isinstance(defaults := attributes.get(_DEFAULTS), dict):
            setattr(service, _DEFAULTS, RequestDefaults(defaults))
        if _TEMPLATE in attributes:
            _read_template_per_request(service)


class RequestDefaults(dict[str, Any]):
    """vLLM's defaults, with those of the running request's version before them."""

    def get(self, name: str, default: Any = None) -> Any:
        """vLLM asks for eight names in each request; nearly no version brings any."""
        request = current_request()
        version = None if request is None else request.version
        if version is None or version.sampling_defaults is None:
            return super().get(name, default)
        own = {_RENAMED.get(name, name): value for name, value in version.sampling_defaults.items()}
        return own[name] if name in own else super().get(name, default)

    def __bool__(self) -> bool:
        """Never empty: `defaults or {}` would lose what a version brings."""
        return True


def _read_template_per_request(service: Any) -> None:
    """A property comes before the attribute of the instance, which stays the base model's."""

    def chat_template(self: Any) -> str | None:
        version = _version()
        own = None if version is None else version.chat_template
        base: str | None = self.__dict__[_TEMPLATE]
        return base if own is None else own

    def set_chat_template(self: Any, template: str | None) -> None:
        self.__dict__[_TEMPLATE] = template

    cls = type(service)
    members = {_TEMPLATE: property(chat_template, set_chat_template)}
    service.__class__ = type(cls.__name__, (cls,), members)


def _version() -> AdapterVersion | None:
    request = current_request()
    return None if request is None else request.version
