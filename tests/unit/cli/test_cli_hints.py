"""Hints of the command line: what to type next where something is unknown, empty or elsewhere."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

from adaptry.cli import app, main
from adaptry.client import ApiError
from adaptry.terminal.hints import hint_of
from adaptry.terminal.suggestions import suggest
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
from tests.support.servers.registry_threaded import ROOT
from tests.support.servers.web import WebServer
from tests.unit.cli.conftest import NO_ITEMS, Run

EMPTY = ("keys", "tenants", "rates/keys", "rates/tenants", "adapters/a/grants", "cache/pins")


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
        ("events tail --kind nope", "adaptry: kind: must be 'adapter.imported', "),
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
    # its brackets and dots are typer's: "[[WORD]...]..." else
    assert [each for each in found if each[0] == "[" or each.endswith("...")] == []


@pytest.mark.parametrize(
    ("line", "exit_code", "said"),
    [
        ("nope", 2, "`adaptry --help` shows what there is"),
        ("cache nope", 2, "`adaptry cache --help` shows what there is"),
        ("cache pin", 2, "'REFERENCE': `adaptry cache pin --help` shows"),
        ("cache show --nope", 2, "--nope: `adaptry cache show --help` shows"),
        ("demo --port 99999", 2, "'--port': must be at most 65535"),
        ("db backup to --database sqlite:///none/r.db", 1, "there is no none/r.db: name the"),
    ],
)
def test_a_mistake_without_a_server_is_told_with_what_to_type(
    line: str,
    exit_code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(line.split()) == exit_code
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert said in captured.err


def test_the_place_of_a_value_is_named_as_on_the_command_line(run: Run, server: str) -> None:
    line = "adapter search --state happy"
    said = run(line, server)[2]
    assert said.startswith("adaptry: state: must be 'pending', ")


def test_the_words_of_a_command_are_no_mistyped_values() -> None:
    refused = ApiError(422, "invalid_request", "body.scopes.0: must be 'infer' or 'operate'")
    assert suggest(refused, ["key", "create", "app", "--scope", "everything"]) == ""
    assert suggest(refused, ["key", "create", "app", "--scope", "opperate"]) == (
        "did you mean operate?"
    )


@pytest.mark.parametrize("verb", ["add upper", "inspect"])
@pytest.mark.parametrize("folder", ["/nowhere", "nowhere"])
def test_a_folder_that_is_nowhere_is_told(verb: str, folder: str, run: Run, server: str) -> None:
    code, _, err = run(f"adapter {verb} {folder}", server)
    assert code == 1
    assert f"[source_not_allowed]: on this machine there is no {folder}" in err
