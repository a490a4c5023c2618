"""Imports of the command line: a command loads only what it needs, so that it starts at once."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import typer

from adaptry.cli import app, main
from adaptry.client.models import CacheRead, OverviewItem
from adaptry.command_tree import PLACES, load
from tests.support.servers.web import web_server

NOBODY = "http://127.0.0.1:1"
HEAVY = {
    "alembic",
    "fastapi",
    "httpx",
    "numpy",
    "opentelemetry",
    "psutil",
    "pydantic_settings",
    "rich",
    "sqlalchemy",
    "sqlmodel",
    "torch",
    "uvicorn",
    "vllm",
}
CLIENT = {"http", "pydantic"}
MAY_LOAD = {"demo": {"psutil"}}
MOST_FOR_HELP = 1.7
"""Modules of any command's help, in those of typer."""
MOST_FOR_A_CALL = 1.28
"""Modules of a command that asks a server, in those of typer, pydantic and http.client."""
MOST_CALLS = 1.6
"""Calls of a command until its end, in those of importing the three: each is 100 to 200 ns."""
REPORT = (
    "\nimport sys; print('imported:', *{n.partition('.')[0] for n, m in sys.modules.items() if m})"
)
COMMANDS = [
    "adapter list",
    "adapter show upper",
    "adapter add upper .",
    "adapter promote upper:2",
    "adapter rollback upper",
    "base list",
    "cache show",
    "cache top --once",
    "events export",
    "job list",
    "key list",
    "manifest inference-model-rewrite --pool p",
    "tenant list",
    "webhook list",
    "why upper",
]


def imported(program: str, *arguments: str) -> set[str]:
    """The top packages that a program has imported at its end."""
    done = subprocess.run(
        [sys.executable, "-c", program + REPORT, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split()[1:])


def run(arguments: Sequence[str]) -> set[str]:
    return imported("import sys; from adaptry.cli import main; main(sys.argv[1:])", *arguments)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_asks_a_server_loads_the_client_alone(command: str) -> None:
    loaded = run([*command.split(), "--server", NOBODY])
    assert loaded >= CLIENT
    assert not loaded & HEAVY


def test_a_command_looks_for_no_plugin_of_pydantic_and_tells_no_other_process() -> None:
    """What `adaptry demo` starts reads the environment: a server may have plugins."""
    program = (
        "import os, sys; from adaptry.cli import main; before = dict(os.environ); "
        "main(sys.argv[1:]); assert dict(os.environ) == before"
    )
    assert "importlib.metadata" not in modules_after(program, "whoami", "--server", NOBODY)


TYPER = "import typer"
LIBRARIES = "import typer._adapters, http.client"
EACH_HELP = """
import os, sys
from adaptry.cli import main
from adaptry.command_tree import PLACES
import contextlib, io

def show(words):
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        main([*words, "--help"])
    if "Commands:" in told.getvalue():
        lines = told.getvalue().partition("Commands:")[2].splitlines()
        return [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "]
    return []

for name in PLACES:
    if os.fork() == 0:
        verbs = show([name])
        for verb in verbs:
            show([name, verb])
        print(name, *(each for each, module in sys.modules.items() if module), flush=True)
        os._exit(0)
    assert os.wait()[1] == 0
"""


def test_the_help_of_each_command_loads_little_but_typer() -> None:
    """Counted, as times depend on the machine: a package more is 10 to 300 ms."""
    done = subprocess.run(
        [sys.executable, "-c", EACH_HELP], capture_output=True, text=True, check=True
    )
    loaded = {name: modules for name, *modules in map(str.split, done.stdout.splitlines())}
    assert loaded.keys() == PLACES.keys()
    needed = len(modules_after(TYPER))
    for name, modules in loaded.items():
        if name == "serve":  # argparse's, with the settings as defaults
            continue
        more = (HEAVY | CLIENT | {"asyncio"}) & set(modules)
        assert not more - MAY_LOAD.get(name, set()), name
        assert len(modules) <= MOST_FOR_HELP * needed, (name, len(modules), needed)


def test_a_command_loads_little_but_its_libraries() -> None:
    program = "import sys; from adaptry.cli import main; main(sys.argv[1:])"
    loaded = modules_after(program, "adapter", "list", "--server", NOBODY)
    needed = len(modules_after(LIBRARIES))
    assert len(loaded) <= MOST_FOR_A_CALL * needed, (len(loaded), needed)
    of_client = {each for each in loaded if each.startswith("adaptry.client.resources.")}
    assert of_client == {
        f"adaptry.client.resources.{name}" for name in ("adapters", "cache", "generate")
    }
    of_models = {each for each in loaded if each.startswith("adaptry.client.models.")}
    assert of_models == {
        f"adaptry.client.models.{name}"
        for name in ("cache", "generate", "history", "registry", "response", "shared")
    }


COUNT = """
import contextlib, io, sys
calls = 0

def count(frame, event, argument):
    global calls
    calls += event in ("call", "c_call")

sys.setprofile(count)
{}
sys.setprofile(None)
print(calls)
"""
ALONE = """
from adaptry.cli import main
with contextlib.redirect_stdout(io.StringIO()) as out:
    assert main(sys.argv[1:]) == 0 and out.getvalue()
"""
COMMAND = f"""{ALONE}
assert not {{"_ssl", "_hashlib"}} & set(sys.modules), "nothing is encrypted here"
"""
AT = "2026-11-29T02:41:00Z"
ROW = {
    **dict.fromkeys(OverviewItem.model_fields),
    **{"name": "upper", "tags": [], "metadata": {}, "aliases": {"default": 1}, "splits": {}},
    **{"serve_chat_template": True, "serve_sampling_defaults": True, "created_at": AT},
    **{"versions": 1, "version_tags": []},
}
TIERS: dict[str, object] = {"gpu": [], "host": [], "hidden": {"gpu": 0, "host": 0}}
CACHE = {
    **dict.fromkeys(CacheRead.model_fields),
    **{"slots": 2, "host_capacity": 4, "host_bytes": 1, "slots_by_state": {}, "waiting": 0},
    **{"loading": [], "replicas": [], "engine_up": True, **TIERS},
}
ANSWERS: dict[str, object] = {
    "/healthz": {},
    "/readyz": {"status": "ready", "parts": {"database": "ok", "engine": "ok", "store": "ok"}},
    "/api/v1/whoami": {"name": "me", "tenant": None, "scopes": [], "prefix": None}
    | {"expires_at": None},
    "/api/v1/adapters": {"items": [], "next_page_token": None},
    "/api/v1/overview": {"items": [ROW], "total": 1, "as_of": None},
    "/api/v1/cache": CACHE,
    "/api/v1/cache/decisions": {"items": [], "oldest_id": None, "newest_id": 0},
}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with web_server() as server:
        for path, answer in ANSWERS.items():
            server.file(path, json.dumps(answer).encode())
        server.file("/metrics", b"adaptry_engine_up 1.0\n")
        yield server.url


def test_doctor_looks_at_an_sqlite_file_without_sqlalchemy(tmp_path: Path) -> None:
    """Nor are the settings read, where the environment has none: their classes take 0.1 s."""
    database = f"sqlite:///{tmp_path}/registry.db"
    loaded = run(["doctor", "--database", database, "--server", NOBODY])
    assert not loaded & (HEAVY - {"psutil"})


def test_a_small_simulation_loads_only_what_it_runs() -> None:
    program = "import sys; from adaptry.cli import main; main(sys.argv[1:])"
    asked = ["size", "--adapters", "2", "--rate", "1", "--seconds", "5"]
    loaded = set(modules_after(program, *asked))
    assert "engine.policy.policy" in loaded
    unused = {"adaptry.sizing.plot", "asyncio", "http.client", "msgspec", "statistics"}
    assert not loaded & (HEAVY | unused)


@pytest.fixture(scope="module")
def calls_for_libraries() -> int:
    return calls_of(LIBRARIES)


def calls_of(program: str, *arguments: str) -> int:
    """The same each time, however busy the machine is: seconds of CPU are not."""
    done = subprocess.run(
        [sys.executable, "-c", COUNT.format(program), *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.parametrize(
    "command", ["whoami", "adapter list", "adapter list --sort used", "cache show", "doctor"]
)
def test_a_command_ends_soon(command: str, server: str, calls_for_libraries: int) -> None:
    calls = calls_of(COMMAND, *command.split(), "--server", server)
    assert calls <= MOST_CALLS * calls_for_libraries, (calls, calls_for_libraries)


@pytest.mark.parametrize(
    "command", ["doctor --database sqlite:///{0}/r.db", "size --adapters 2 --rate 1 --seconds 5"]
)
def test_a_command_without_a_server_ends_soon(
    command: str, tmp_path: Path, calls_for_libraries: int
) -> None:
    calls = calls_of(ALONE, *command.format(tmp_path).split(), "--server", NOBODY)
    assert calls <= MOST_CALLS * calls_for_libraries, (calls, calls_for_libraries)


@pytest.mark.parametrize("arguments", [["adapter", "list", "--help"], ["cache"], []])
def test_help_is_what_typer_writes(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """It is written without typer's own flag, which needs pydantic."""
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    with contextlib.suppress(typer.Exit):
        app(
            [*filter("--help".__ne__, arguments), "--help"],
            prog_name="adaptry",
            standalone_mode=False,
        )
    assert shown == capsys.readouterr().out
    assert shown.startswith("Usage: adaptry ")
    assert main([*filter("--help".__ne__, arguments), "-h"]) == 0
    assert shown == capsys.readouterr().out


def modules_after(program: str, *arguments: str) -> list[str]:
    report = "\nimport sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program + report, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["nope"]])
def test_what_asks_no_server_loads_no_client(arguments: list[str]) -> None:
    assert not run(arguments) & (HEAVY | {"http"})


def test_the_python_client_loads_neither_sql_nor_an_engine() -> None:
    loaded = imported("from adaptry.client import Client")
    assert not loaded & (HEAVY - {"httpx", "rich"})  # with click, httpx loads rich


@pytest.mark.parametrize("name", PLACES)
def test_the_help_of_all_commands_has_the_first_sentence_of_each(name: str) -> None:
    assert PLACES[name].help == load(name).get_short_help_str(1000)
