"""What a guest asks its registry about: whatever may be a name there, and nothing else."""

from typing import Any, cast

import pytest

from adaptry.client import Client
from guest.registry_client import RegistryClient
from registry.inspection.base_identity import BaseIdentity


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
