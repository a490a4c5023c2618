"""A developer's own settings do not affect the tests."""

import os
import subprocess
import sys
from pathlib import Path

from engine.settings import EngineSettings
from registry.settings import RegistrySettings

ROOT = Path(__file__).parents[3]

# read at import, as a test's module would
DATABASE_URL = RegistrySettings().database_url


def test_settings_are_the_defaults_here_and_in_a_child() -> None:
    assert RegistrySettings.model_fields["database_url"].default == DATABASE_URL
    assert EngineSettings().max_waiting == EngineSettings.model_fields["max_waiting"].default
    code = "import os; print(*os.environ, sep='\\n')"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not [name for name in child.stdout.split() if name.upper().startswith("ADAPTRY_")]


def test_a_developers_settings_do_not_reach_a_test() -> None:
    settings = {
        "ADAPTRY_DATABASE_URL": "nonsense",
        "adaptry_max_waiting": "nonsense",
        "ADAPTRY_SERVER": "nonsense",
    }
    chosen = f"{__file__}::{test_settings_are_the_defaults_here_and_in_a_child.__name__}"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", chosen],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | settings,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
