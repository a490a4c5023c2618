"""docs/register.md has the settings' defaults; its commands are run with the other pages'."""

import re
from pathlib import Path

import pytest

from registry.settings import RegistrySettings

PAGE = Path(__file__).parents[2] / "docs" / "register.md"
SETTING = re.compile(r"^\|[^|]+\| `ADAPTRY_(\w+)` \| (.+?) \|$", re.MULTILINE)
UNITS = {"MiB": 2**20, "GiB": 2**30}


def test_every_setting_has_the_default_that_is_written_there() -> None:
    settings = RegistrySettings()
    written = SETTING.findall(PAGE.read_text(encoding="utf-8"))
    assert len(written) >= 10
    for name, default in written:
        value = getattr(settings, name.lower())
        number, _, unit = default.partition(" ")
        if value is None:
            assert default.startswith("`"), name  # another variable
        elif isinstance(value, tuple):
            assert default == f"`{str(list(value)).replace(chr(39), chr(34))}`", name
        else:
            assert value == float(number) * UNITS.get(unit, 1), name


@pytest.mark.parametrize("command", ["adapter add", "adapter push", "job cancel"])
def test_the_page_shows_the_commands(command: str) -> None:
    assert f"adaptry {command}" in PAGE.read_text(encoding="utf-8")
