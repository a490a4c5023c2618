"""Hints of the command line: what to type next where something is unknown, empty or elsewhere."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

from adaptry.cli import app, main
from adaptry.client.models import CacheRead
from adaptry.terminal.hints import hint_of
from registry.errors import (
    NothingToRollBack,
    RegistryError,
    ScopeMissing,
    UnknownAdapter,
    UnknownAlias,
    UnknownDelivery,
    UnknownJob,
    UnknownKey,
    UnknownRevision,
    UnknownServedName,
    UnknownServer,
    UnknownTenant,
    UnknownVersion,
    UnknownWebhook,
)
from tests.support.servers.registry_threaded import ROOT, registry_server
from tests.support.servers.scripted_http import answering
from tests.support.servers.web import WebServer, web_server

Run = Callable[..., tuple[int, str, str]]
NO_ITEMS = json.dumps({"items": [], "next_page_token": None}).encode()
EMPTY = ("keys", "tenants", "rates/keys", "rates/tenants", "adapters/a/grants", "cache/pins")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry without an engine, in which nothing has happened yet."""
    with registry_server(tmp_path_factory.mktemp("registry")) as url:
        yield url


@pytest.fixture
def other() -> Iterator[WebServer]:
    """A web server that knows nothing of adapters."""
    with web_server() as found:
        yield found


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit code, standard output and standard error."""

    def command(line: str, server: str) -> tuple[int, str, str]:
        code = main([*line.split(), "--server", server])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


@pytest.mark.parametrize(
    ("error", "command"),
    [
        (UnknownAdapter("a"), "adaptry adapter list"),
        (UnknownAlias("a", "b"), "adaptry adapter aliases a"),
        (UnknownDelivery(3, 4), "adaptry webhook deliveries 3"),
        (UnknownJob(3), "adaptry job list"),
        (UnknownKey("a"), "adaptry key list"),
        (UnknownRevision("a@b", "7"), "adaptry adapter aliases a --alias b"),
        (UnknownServedName("a", "Org/A"), "adaptry adapter names a"),
        (UnknownServer("a"), "adaptry cache servers"),
        (UnknownTenant("a"), "adaptry tenant list"),
        (UnknownTenant(None), "adaptry whoami"),
        (UnknownVersion("a", 3), "adaptry adapter versions a"),
        (UnknownWebhook(3), "adaptry webhook list"),
        (NothingToRollBack("a@b"), "adaptry adapter aliases a --alias b"),
        (ScopeMissing(["operate"]), "adaptry whoami"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, RegistryError) else "",
)
def test_each_refusal_names_the_command_that_shows_more(error: RegistryError, command: str) -> None:
    assert hint_of(error.code, error.detail).startswith(f"`{command}` shows ")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("job show 99", "there is no job 99 [unknown_job]: `adaptry job list`"),
        ("job cancel 99", "there is no job 99 [unknown_job]: `adaptry job list`"),
        ("webhook remove 99", "`adaptry webhook list` shows"),
        ("adapter show nobody", "`adaptry adapter list` shows"),
        ("undo", "nothing to undo: undo takes back what `adaptry adapter promote"),
        ("undo nobody", "[unknown_adapter]: `adaptry adapter list`"),
        ("diff Org/A Org/B", "'Org/A' is no adapter name: lower-case"),
        ("adapter show Org/A", "`adaptry adapter name NAME Org/A`"),
    ],
)
def test_what_is_not_there_is_told_with_what_to_type(
    line: str, said: str, run: Run, server: str
) -> None:
    code, out, err = run(line, server)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert said in err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("adapter list", "no adapters yet: `adaptry adapter add NAME FOLDER`"),
        ("adapter list --tag x", "no adapter meets"),
        ("adapter search x", "no version meets"),
        ("adapter restore --all-unproven", "nothing was to be restored"),
        ("job list", "no jobs yet"),
        ("job list --state failed", "no job meets"),
        ("webhook list", "`adaptry webhook add URL`"),
        ("events list", "no events yet: "),
        ("events list --kind alias.moved", "no event meets"),
        ("manifest inference-model-rewrite --pool p", "`adaptry adapter list`"),
    ],
)
def test_an_empty_list_says_what_would_fill_it(line: str, said: str, run: Run, server: str) -> None:
    code, out, err = run(line, server)
    assert (code, out.count("\n") <= 1, err.count("\n")) == (0, True, 1)
    assert said in err
    assert run(f"{line} --json", server)[1:] == ("[]\n", "")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("key list", "`adaptry key create NAME --scope admin`"),
        ("key rates", "`adaptry key limit NAME requests_per_minute=N`"),
        ("tenant list", "`adaptry tenant create NAME`"),
        ("tenant rates", "`adaptry tenant limit TENANT requests_per_minute=N`"),
        ("tenant grants a", "`adaptry tenant grant a TENANT`"),
        ("cache pins", "`adaptry cache pin NAME`"),
    ],
)
def test_an_empty_list_of_a_server_says_what_would_fill_it(
    line: str, said: str, run: Run, other: WebServer
) -> None:
    for path in EMPTY:
        other.file(f"/api/v1/{path}", NO_ITEMS)
    code, out, err = run(line, other.url)
    assert (code, out.count("\n"), err.count("\n")) == (0, 1, 1)
    assert said in err


def test_who_waits_for_events_is_told_so(server: str) -> None:
    heeds = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    program = f"{heeds}from adaptry.cli import main\nsys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "events", "tail", "--server", server],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        said = process.stderr.readline()
        assert said.startswith("no events yet")
        assert "until Ctrl-C; `adaptry events list` shows the last ones" in said
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()


ENGINES = ["cache show", "cache why upper", "why upper", "cache top --once", "size", "trace export"]
REGISTRY = ["adapter list", "whoami", "job show 1", "events list", "events tail"]


@pytest.mark.parametrize("line", ENGINES)
def test_a_server_without_an_engine_is_told_from_others(line: str, run: Run, server: str) -> None:
    code, out, err = run(line, server)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"adaptry: {server} has no engine, and so no cache: ask a server that")


@pytest.mark.parametrize("line", [*ENGINES, *REGISTRY])
def test_a_server_of_something_else_is_named(line: str, run: Run, other: WebServer) -> None:
    code, out, err = run(line, other.url)
    assert (code, out, err.count("\n")) == (1, "", 1), err
    assert f"what answers at {other.url} is no server of Adaptry: name one with --server" in err


@pytest.mark.parametrize("line", ["cache show", "why upper", "trace export", *REGISTRY[:3]])
@pytest.mark.parametrize("answer", [b"[]\n", b"<html>\n"])
def test_a_page_of_something_else_is_no_answer(
    line: str, answer: bytes, run: Run, other: WebServer
) -> None:
    for path in ("adapters", "cache", "cache/why/upper", "cache/trace", "jobs/1", "whoami"):
        other.file(f"/api/v1/{path}", answer)
    code, out, err = run(line, other.url)
    assert (code, out, err.count("\n")) == (1, "", 1), err
    assert f"what answers at {other.url} is no server of Adaptry" in err


def test_what_a_server_of_ours_can_not_do_is_not_for_want_of_an_engine(
    run: Run, other: WebServer
) -> None:
    cache = {**dict.fromkeys(CacheRead.model_fields), "slots": 2, "host_capacity": 4}
    cache |= {"host_bytes": 0, "slots_by_state": {}, "waiting": 0, "loading": [], "replicas": []}
    cache |= {"gpu": [], "host": [], "hidden": {"gpu": 0, "host": 0}}
    other.file("/api/v1/cache", json.dumps(cache).encode())
    other.file("/api/v1/adapters", NO_ITEMS)
    code, _, err = run("trace export", other.url)
    assert (code, err.count("\n")) == (1, 1)
    assert f"{other.url} can't do this: it is of another release, or several engines" in err


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("key_required", "this server needs an API key: set ADAPTRY_API_KEY to one"),
        ("invalid_key", "the key in ADAPTRY_API_KEY is unknown, expired or revoked: who may"),
    ],
)
def test_who_lacks_a_key_is_told_the_variable(code: str, said: str, run: Run) -> None:
    with answering() as server:
        server.will_say(401, {"code": code, "detail": "send Authorization: Bearer adp_…"})
        failed, out, err = run("whoami", server.url)
    assert (failed, out, err.count("\n")) == (1, "", 1)
    assert said in err
    assert f"[{code}]" in err
    assert "Bearer" not in err


def test_doctor_asks_for_no_key_where_another_server_answers(run: Run, other: WebServer) -> None:
    code, out, _ = run("doctor", other.url)
    assert code == 1
    assert f"BROKEN   server: {other.url}/healthz answers 404" in out
    other.file("/healthz", b"{}")
    code, out, _ = run("doctor", other.url)
    assert code == 1
    assert "see whether `adaptry serve` runs there" in out
    assert "ADAPTRY_API_KEY" not in out


def commands(group: TyperGroup) -> Iterator[TyperCommand]:
    for each in group.commands.values():
        if isinstance(each, TyperGroup):
            yield from commands(each)
        else:
            assert isinstance(each, TyperCommand)
            yield each


def test_arguments_are_written_in_capitals() -> None:
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    found = [
        parameter.display_name_raw
        for command in commands(root)
        for parameter in command.params
        if isinstance(parameter, TyperArgument)
    ]
    assert len(found) > 50
    assert [each for each in found if not each.isupper()] == []


def test_a_server_without_a_base_model_rechecks_nothing(run: Run, other: WebServer) -> None:
    other.file("/api/v1/bases", json.dumps({"items": []}).encode())
    code, out, err = run("adapter recheck", other.url)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "serves no base model: name a server that does, with --server URL" in err


def test_where_nothing_listens_no_number_of_an_error_is_told(run: Run) -> None:
    code, _, err = run("cache show", "http://127.0.0.1:1")
    assert code == 1
    assert "no answer from http://127.0.0.1:1: Connection refused. Is `adaptry serve`" in err
    assert "Errno" not in err
