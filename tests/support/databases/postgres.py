"""A private PostgreSQL for the tests: started from Debian's package, on a Unix socket only."""

import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

START_SECONDS = 30
# Nothing here has to outlive the machine; a crash of the server alone loses nothing by these.
UNSAFE_BUT_FAST = "-c fsync=off -c full_page_writes=off"


def binaries() -> Path | None:
    """The folder of initdb and pg_ctl; Debian keeps it out of the PATH."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return versions[-1].parent if versions else None


class PostgresServer:
    """One cluster in a folder of its own. PostgreSQL refuses to run as root, so root lends it."""

    def __init__(self, programs: Path, parent: Path | None = None) -> None:
        self.programs = programs
        self._user = _somebody() if os.geteuid() == 0 else None
        self.folder = self._make_folder(parent)
        # a socket's path has 107 bytes at most, and TMPDIR or the parent may be longer
        self.sockets = self._make_folder(Path("/tmp"))
        self._data = self.folder / "data"
        self._run("initdb", "-D", str(self._data), "-U", "adaptry", "-A", "trust", *self._locale())

    def _make_folder(self, parent: Path | None) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="adaptry-postgres-", dir=parent))
        if self._user:
            owner = pwd.getpwnam(self._user)
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        return folder

    def _locale(self) -> list[str]:
        """A natural language's order, as most installations have it, where initdb can give one."""
        version = re.search(r"\d+", self._run("initdb", "--version"))
        options = ["--no-sync", "-E", "UTF8", "--locale=C.UTF-8"]
        if version and int(version[0]) >= 15:
            options += ["--locale-provider=icu", "--icu-locale=en-US"]
        return options

    def url(self, database: str) -> str:
        return f"postgresql+asyncpg://adaptry@/{database}?host={self.sockets}"

    def new_database(self, name: str, *, template: str = "template0") -> str:
        """Its URL."""
        self.sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def start(self, options: str = UNSAFE_BUT_FAST) -> None:
        options = f"-k {self.sockets} -c listen_addresses= {options}"
        log = str(self.folder / "log")
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self._run("pg_ctl", "-D", str(self._data), "-l", log, "-o", options, "-w", "start")
                return
            except subprocess.CalledProcessError:  # after a kill, while its children still end
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    @property
    def pid(self) -> int:
        """Of the postmaster, whose children are the others."""
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def kill(self) -> None:
        """As when the machine takes it: no goodbye to any client."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        while Path(f"/proc/{pid}").exists() and "Z" not in _state(pid):
            time.sleep(0.01)

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """All of its processes are there in the block, and do nothing."""
        postmaster = psutil.Process(self.pid)
        processes = [postmaster, *postmaster.children(recursive=True)]
        for process in processes:
            with suppress(psutil.NoSuchProcess):  # one of a connection that has ended
                process.suspend()
        try:
            yield
        finally:
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    process.resume()

    def remove(self) -> None:
        if (self._data / "postmaster.pid").exists():
            subprocess.run(
                [self.programs / "pg_ctl", "-D", self._data, "-m", "immediate", "stop"],
                user=self._user,
                cwd="/",
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            )
        for folder in (self.folder, self.sockets):
            shutil.rmtree(folder, ignore_errors=True)

    def sql(self, statement: str, database: str = "postgres") -> str:
        return self._run("psql", *self._psql_options(database), "-c", statement)

    def psql(self, database: str) -> "subprocess.Popen[str]":
        """Statements are its input; it ends at an error."""
        return subprocess.Popen(
            [self.programs / "psql", *self._psql_options(database)],
            user=self._user,
            cwd="/",
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def _psql_options(self, database: str) -> list[str]:
        options = ["-h", str(self.sockets), "-U", "adaptry", "-d", database, "-qAtX"]
        return [*options, "-v", "ON_ERROR_STOP=1"]

    def unpacked(self, dump: Path) -> bytes:
        """The SQL in what pg_dump wrote in its own format."""
        with dump.open("rb") as packed:
            program = (self.programs / "pg_restore", "--file=-")
            return subprocess.run(program, stdin=packed, stdout=subprocess.PIPE, check=True).stdout

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [self.programs / program, *arguments],
            user=self._user,
            cwd="/",
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if program != "pg_ctl" else subprocess.DEVNULL,
            check=True,
        )
        return done.stdout


def _somebody() -> str:
    """An account that owns nothing of value here."""
    return "postgres" if any(user.pw_name == "postgres" for user in pwd.getpwall()) else "nobody"


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"
