"""Defaults of the version that a request is for, as vLLM's services read them."""

from typing import Any

from engine.gateway.request_context import RequestContext
from engine.types import AdapterVersion, VersionId
from engine.vllm.training_defaults import serve_training_defaults
from tests.support.running_requests import request_scope


class Service:
    """As vLLM's: both are set when it is made, and read while it handles a request."""

    def __init__(self) -> None:
        self.chat_template: str | None = "base"
        self.default_sampling_params: dict[str, Any] = {"top_k": 5}

    def read(self, name: str) -> tuple[str | None, Any]:
        return self.chat_template, (self.default_sampling_params or {}).get(name)


def version(**training: Any) -> AdapterVersion:
    return AdapterVersion(VersionId(1), "a", 1, "0" * 64, "/a", 8, 100, **training)


def served(version_: AdapterVersion | None, name: str) -> tuple[str | None, Any]:
    service, other = Service(), object()
    serve_training_defaults([service, other, None])
    with request_scope(RequestContext("a", version_)):
        return service.read(name)


def test_a_version_brings_its_own() -> None:
    own = version(chat_template="own", sampling_defaults={"top_k": 9})
    assert served(own, "top_k") == ("own", 9)


def test_names_are_vllms() -> None:
    defaults = {"max_new_tokens": 7, "eos_token_id": [1, 2]}
    assert served(version(sampling_defaults=defaults), "max_tokens") == ("base", 7)
    assert served(version(sampling_defaults=defaults), "stop_token_ids") == ("base", [1, 2])


def test_what_it_does_not_bring_is_the_base_models() -> None:
    assert served(version(sampling_defaults={"top_p": 0.5}), "top_k") == ("base", 5)
    assert served(version(), "top_k") == ("base", 5)
    assert served(None, "top_k") == ("base", 5)


def test_outside_of_a_request_the_base_models_are_read() -> None:
    service = Service()
    serve_training_defaults([service])
    assert service.read("top_k") == ("base", 5)
    assert isinstance(service, Service)


def test_a_version_may_bring_defaults_where_the_base_model_has_none() -> None:
    service = Service()
    service.default_sampling_params = {}
    service.chat_template = None
    serve_training_defaults([service])
    own = version(chat_template="own", sampling_defaults={"top_k": 9})
    with request_scope(RequestContext("a", own)):
        assert service.read("top_k") == ("own", 9)


def test_they_are_no_part_of_a_versions_identity() -> None:
    assert version(chat_template="own") == version()
    assert hash(version(sampling_defaults={"top_k": 9})) == hash(version())
