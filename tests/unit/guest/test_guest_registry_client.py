"""What a guest asks its registry about: whatever may be a name there, and nothing else."""

from typing import Any, cast

import pytest

from adaptry.client import AdaptryError, Client
from guest.registry_client import RegistryClient
from registry.inspection.base_identity import BaseIdentity
from tests.support.servers.scripted_http import answering


class Versions:
    def __init__(self) -> None:
        self.asked: list[str] = []

    def resolve(self, name: str, base: str) -> str:
        self.asked.append(name)
        return "found"


class Registry:
    def __init__(self) -> None:
        self.versions = Versions()


@pytest.mark.parametrize("name", ["upper", "upper:3", "Org/Adapter-7B", "BASE:ADAPTER", "größe"])
def test_references_and_served_names_are_asked_for(name: str) -> None:
    registry = Registry()
    client = RegistryClient(cast("Client", registry), cast("Any", None))
    assert str(client.find(name, BaseIdentity("base", "0" * 64))) == "found"
    assert registry.versions.asked == [name]


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 300, " x", "\ud800"])
def test_what_can_be_no_name_is_not(name: str) -> None:
    registry = Registry()
    client = RegistryClient(cast("Client", registry), cast("Any", None))
    assert client.find(name, BaseIdentity("base", "0" * 64)) is None
    assert registry.versions.asked == []


BASE = BaseIdentity("base", "0" * 64)


def test_what_the_registry_does_not_serve_is_left_to_other_resolvers() -> None:
    with answering() as registry, Client(registry.url) as client:
        registry.will_say(404, {"status": 404, "code": "unknown_adapter", "detail": "no bot"})
        assert RegistryClient(client, cast("Any", None)).find("bot", BASE) is None


@pytest.mark.parametrize("content", [b"<html>404</html>", {"detail": "Not Found"}])
def test_a_404_that_is_not_the_registrys_unloads_nothing(content: object) -> None:
    """A proxy before it says so while its routes are wrong: what is served stays."""
    with answering() as registry, Client(registry.url) as client:
        registry.will_say(404, content)
        with pytest.raises(AdaptryError):
            RegistryClient(client, cast("Any", None)).find("bot", BASE)
