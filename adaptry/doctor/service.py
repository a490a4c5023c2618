"""Checks of a server and what it needs: settings, database, store, port."""

import os
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import ValidationError

from adaptry.client import AdaptryError
from adaptry.doctor.findings import Finding, broken, ok, warning
from adaptry.serve import preflight
from adaptry.terminal.options import API_KEY, connect
from adaptry.terminal.output import size

SMALL_DISK_BYTES, TINY_DISK_BYTES = 10 * preflight.GIB, preflight.GIB
OF_COMMANDS = {API_KEY, "ADAPTRY_SERVER", "ADAPTRY_TRACE_KEY"}
LOCAL = {"127.0.0.1", "localhost", "::1"}


@dataclass(frozen=True, slots=True)
class Service:
    """The database, the store and the URL of a server, running or not."""

    database_url: str
    store: Path
    server: str

    def check_database(self) -> Finding:
        """Whether the database is reachable and has this release's schema."""
        from registry.database.sqlite_schema import sqlite_schema
        from registry.errors import RegistryError

        try:
            if (state := sqlite_schema(self.database_url)) is None:
                from registry.database.schema_revision import schema_state

                state = schema_state(self.database_url)
        except ValueError as error:
            return broken("database", f"its URL does not work: {error}", "correct it")
        except RegistryError as error:
            fix = "start it, or correct ADAPTRY_DATABASE_URL (see the documentation: The database)"
            return broken("database", error.detail, fix)
        if not state.is_known:
            detail = f"its schema {state.current} is unknown to this release"
            return broken("database", detail, "use the release that created it, or a newer one")
        if state.current is None:
            detail = "there are no tables yet"
            return warning("database", detail, "`adaptry db upgrade`; `adaptry serve` does it too")
        if state.missing:
            detail = f"{state.missing} migrations are missing"
            return broken("database", detail, "`adaptry db upgrade`; `adaptry serve` does it too")
        return ok("database", f"answers, schema {state.current} is the newest")

    def check_store(self) -> Finding:
        """The nearest existing folder has to be writable and have room."""
        wanted = self.store.absolute()
        folder = next(path for path in (wanted, *wanted.parents) if path.exists())
        if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
            detail = f"{folder} can't be written to"
            return broken("store", detail, "give it to this user, or set ADAPTRY_STORE")
        usage = shutil.disk_usage(folder)
        detail = f"{size(usage.free)} free of {size(usage.total)} at {self.store}"
        fix = "free some: `adaptry adapter gc` lists versions that can be deleted"
        if usage.free < TINY_DISK_BYTES:
            return broken("store", detail, fix)
        if usage.free < SMALL_DISK_BYTES:
            return warning("store", detail, fix)
        return ok("store", detail)

    def answers(self) -> bool:
        """Whether a server of ours is ready there."""
        try:
            with connect(self.server) as client:
                return client.is_ready()
        except AdaptryError:
            return False

    def check_server(self) -> Finding:
        """Either the server responds, or its port is free for one."""
        try:
            with connect(self.server) as client:
                if client.is_ready():
                    return ok("server", f"{self.server} answers and is ready")
        except AdaptryError as error:
            return broken("server", str(error), "write --server http://HOST:PORT")
        parts = urlsplit(self.server)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        if _is_open(host, port):
            detail = f"{self.server} is not a server that is ready"
            fix = "wait for it, stop what listens there, or choose another port"
            return broken("server", detail, fix)
        if host not in LOCAL:
            return broken("server", f"no answer from {self.server}", "start it there")
        return ok("server", f"nothing listens at {self.server}: free for `adaptry serve`")


def _is_open(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=3):
            return True
    except OSError:
        return False


def check_settings() -> Finding:
    """Whether the environment's settings are valid, as `serve` reads them."""
    given = {name.upper() for name in os.environ if name.upper().startswith("ADAPTRY_")}
    if given <= OF_COMMANDS:  # to import all settings takes 0.1 s of CPU
        return ok("settings", "the environment has none")
    from engine.settings import EngineSettings
    from registry.settings import RegistrySettings
    from registry.validation import explain

    for settings in (RegistrySettings, EngineSettings):
        try:
            settings()
        except ValidationError as error:
            first = error.errors()[0]
            name = "_".join(map(str, first["loc"])).upper()
            return broken("settings", f"ADAPTRY_{name}: {explain(first)}", "correct or unset it")
    return ok("settings", "the environment's are valid")
