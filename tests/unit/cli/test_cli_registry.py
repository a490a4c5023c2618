"""The commands on versions and aliases, against the registry over real HTTP."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adaptry.cli import main
from tests.support.servers.registry_threaded import ROOT, registry_server

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registry_server(tmp_path_factory.mktemp("registry")) as url:
        yield url


@pytest.fixture
def run(server: str, capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit code, standard output and standard error of `adaptry adapter …`."""

    def command(*arguments: str) -> tuple[int, str, str]:
        code = main(["adapter", *arguments, "--server", server])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


@pytest.fixture
def bot(run: Run, request: pytest.FixtureRequest) -> str:
    """An adapter with three versions, separate for each test."""
    name = "".join(c for c in request.node.name if c.isalnum())[-60:].lower()
    for folder in ("upper", "vowels", "stars"):
        assert run("add", name, str(ROOT / "demo" / "adapters" / folder))[0] == 0
    return name


def as_json(run: Run, *arguments: str) -> Any:
    code, out, err = run(*arguments, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_each_transition_prints_the_new_state(run: Run, bot: str) -> None:
    version = f"{bot}:2"
    for what, state in (("deprecate", "deprecated"), ("restore", "ready"), ("retire", "retired")):
        assert run(what, version, "--reason", "why") == (0, f"{version} is {state}\n", "")
    assert as_json(run, "quarantine", version, "--reason", "x")["state_code"] == "operator"
    assert as_json(run, "purge", version)["version"]["state"] == "purged"
    assert as_json(run, "show", version)["state"] == "purged"
    states = [version["state"] for version in as_json(run, "versions", bot)]
    assert states == ["ready", "purged", "ready"]


def test_a_share_of_users_is_added_to_the_existing_split(run: Run, bot: str) -> None:
    def weights(version: int, percent: int) -> dict[int, int]:
        alias = as_json(run, "promote", f"{bot}:{version}", "--percent", str(percent))
        return {each["version"]: each["weight"] for each in alias["weights"]}

    assert weights(2, 10) == {1: 9, 2: 1}
    assert weights(3, 20) == {1: 18, 2: 2, 3: 5}
    assert weights(2, 50) == {1: 18, 2: 23, 3: 5}
    assert as_json(run, "promote", f"{bot}:2")["weights"] == [{"version": 2, "weight": 1}]


def test_a_share_needs_another_version(run: Run, bot: str) -> None:
    for alias in ("default", "new"):
        code, _, err = run("promote", f"{bot}:1", "--alias", alias, "--percent", "10")
        assert (code, err.count("\n")) == (2, 1)
        assert "another version" in err


def test_the_history_of_an_alias_is_shown(run: Run, bot: str) -> None:
    run("promote", f"{bot}:2", "--reason", "better")
    history = as_json(run, "aliases", bot, "--alias", "default")
    assert [state["version"] for state in history] == [2, 1]
    then = as_json(run, "aliases", bot, "--at", history[1]["valid_from"])
    assert [state["version"] for state in then] == [1]
    back = as_json(run, "rollback", bot, "--at", history[1]["valid_from"])
    assert back["version"] == 1
    assert run("unalias", bot, "default", "--reason", "no more")[1] == f"{bot}@default is deleted\n"
    assert as_json(run, "aliases", bot) == []


def test_the_preparation_options_reach_the_server(run: Run, bot: str) -> None:
    for wish in (["--probe"], ["--evict-old"], ["--evict-old", "--timeout", "5", "--no-warm"]):
        for arguments in (["promote", f"{bot}:2"], ["rollback", bot, "--revision", "1"]):
            code, out, err = run(*arguments, *wish)
            expected = 0 if arguments[0] == "rollback" else 1
            assert (code, "engine_unavailable" in err) == (expected, bool(expected)), out + err
    assert as_json(run, "promote", f"{bot}:2", "--no-warm", "--timeout", "5")["version"] == 2
    assert as_json(run, "rollback", bot, "--no-warm", "--timeout", "5")["version"] == 1


def test_metadata_can_be_added_and_cleared(run: Run, bot: str) -> None:
    said = ("--tag", "a", "--tag", "b", "--set", "x=1", "--set", "y=NaN", "--set", "z=free text")
    version = as_json(run, "update", f"{bot}:1", *said, "--dataset", "d")
    assert version["tags"] == ["a", "b"]
    assert version["metadata"] == {"x": 1, "y": "NaN", "z": "free text"}
    less = ("--untag", "a", "--set", "x=null", "--dataset", "")
    version = as_json(run, "update", f"{bot}:1", *less)
    assert (version["tags"], version["dataset"]) == (["b"], None)
    assert "x" not in version["metadata"]
    assert as_json(run, "update", bot, "--owner", "o")["owner"] == "o"
    found = as_json(run, "search", bot, "--tag", "b", "--state", "ready", "--state", "retired")
    assert [each["reference"] for each in found] == [f"{bot}:1"]
    assert [each["name"] for each in as_json(run, "list", "--owner", "o")] == [bot]


def test_garbage_is_deleted_only_with_apply(run: Run, bot: str) -> None:
    run("retire", f"{bot}:3")
    rules = ("gc", "--keep-last", "0", "--rollback-days", "0", "--adapter", bot)
    for apply, dry_run in (((), True), (("--dry-run",), True), (("--apply",), False)):
        done = as_json(run, *rules, *apply)
        assert done["dry_run"] is dry_run
        assert [each["reference"] for each in done["purged"]] == [f"{bot}:3"]
    assert as_json(run, *rules)["purged"] == []
    done = as_json(run, *rules, "--state", "ready", "--state", "deprecated")
    assert [each["reference"] for each in done["purged"]] == [f"{bot}:2"]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["retire", "x"], 2, "NAME:VERSION"),
        (["retire", "x:one"], 2, "NAME:VERSION"),
        (["retire", f"x:{'9' * 5000}"], 2, "NAME:VERSION"),
        (["retire", "x:9999999999"], 1, "invalid_request"),
        (["retire", "x:1"], 1, "unknown_adapter"),
        (["name", "x", "X"], 1, "unknown_adapter"),
        (["name", "x:y", "X"], 2, "names no version"),
        (["unname", "x", "X"], 1, "unknown_adapter"),
        (["quarantine", "x:1"], 2, "--reason"),
        (["quarantine", "x:1", "--reason", "r", "--code", "No"], 1, "invalid_request"),
        (["promote", "x:1", "--percent", "100"], 2, "--percent"),
        (["promote", "x:1", "--no-warm", "--probe"], 2, "--no-warm"),
        (["promote", "x:1", "--timeout", "0"], 2, "--timeout"),
        (["rollback", "x", "--timeout", "3601"], 2, "--timeout"),
        (["rollback", "x", "--at", "noon"], 1, "invalid_request"),
        (["aliases", "x", "--alias", "a"], 1, "unknown_adapter"),
        (["update", "x", "--set", "y"], 2, "KEY=VALUE"),
        (["update", "x:1", "--tag", "two words"], 1, "invalid_request"),
        (["search", "--state", "happy"], 1, "invalid_request"),
        (["gc", "--state", "happy"], 1, "invalid_request"),
        (["gc", "--keep-last", "-1"], 2, "--keep-last"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else "",
)
def test_an_error_is_one_line(run: Run, arguments: list[str], exit_code: int, message: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (exit_code, "")
    assert err.startswith("adaptry: ")
    assert err.count("\n") == 1
    assert message in err


def test_served_names_are_set_shown_and_removed(run: Run, bot: str) -> None:
    assert run("promote", f"{bot}:2", "--alias", "prod")[0] == 0
    for reference in (bot, f"{bot}@prod", f"{bot}:3"):
        named = f"Org/{reference}"
        assert run("name", reference, named)[1] == f"{named} -> {reference}\n"
    rows = run("names", bot)[1].splitlines()
    assert [row.split()[:2] for row in rows] == [
        ["NAME", "MEANS"],
        [f"Org/{bot}", bot],
        [f"Org/{bot}:3", f"{bot}:3"],
        [f"Org/{bot}@prod", f"{bot}@prod"],
    ]
    assert run("unname", bot, f"Org/{bot}")[1] == f"Org/{bot} is removed\n"
    assert len(json.loads(run("names", bot, "--json")[1])) == 2
    refused = run("unname", bot, f"Org/{bot}")
    assert (refused[0], "[unknown_served_name]" in refused[2]) == (1, True)


def test_a_folder_that_only_this_machine_may_read_is_to_be_pushed(run: Run, tmp_path: Path) -> None:
    code, out, err = run("add", "elsewhere", str(tmp_path))
    assert (code, out) == (1, "")
    assert "[source_not_allowed]: to send the files of this machine: adaptry adapter push" in err
    assert "push" not in run("add", "elsewhere", str(tmp_path / "none"))[2]


def test_a_name_with_a_slash_is_refused_for_that(run: Run) -> None:
    code, out, err = run("add", "Org/Name", str(ROOT / "demo" / "adapters" / "upper"))
    assert (code, out) == (1, "")
    assert "'Org/Name' can be no adapter's name, as it has a '/'" in err
