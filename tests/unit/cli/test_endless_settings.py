"""Endless settings: an infinite number prevents the start, whatever would reckon with it."""

from collections.abc import Iterator

import pytest
from pydantic import BaseModel, ValidationError

from engine.settings import EngineSettings
from fleet.options import FleetOptions
from guest.settings import GuestSettings
from registry.settings import RegistrySettings

MODELS: tuple[type[BaseModel], ...] = (
    RegistrySettings,
    EngineSettings,
    FleetOptions,
    GuestSettings,
)


def _numbers() -> Iterator[tuple[type[BaseModel], str]]:
    for model in MODELS:
        for name, field in model.model_fields.items():
            if isinstance(field.default, float):
                yield model, name


NUMBERS = list(_numbers())


def test_each_kind_of_server_has_settings_that_are_numbers() -> None:
    assert {model for model, _ in NUMBERS} == set(MODELS)


@pytest.mark.parametrize(("model", "name"), NUMBERS)
@pytest.mark.parametrize("endless", ["inf", "1e999", "nan"])
def test_a_number_has_an_end(model: type[BaseModel], name: str, endless: str) -> None:
    with pytest.raises(ValidationError) as refused:
        model.model_validate({name: endless})
    assert (name,) in [error["loc"] for error in refused.value.errors()]
