"""Defaults of settings that commands need as well: to import all settings takes 0.1 s of CPU."""

from pathlib import Path

_HOME = Path(".adaptry")
DATABASE_URL = f"sqlite+aiosqlite:///{_HOME}/registry.db"
STORE = _HOME / "store"
