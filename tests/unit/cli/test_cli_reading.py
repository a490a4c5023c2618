"""Commands that show and undo: undo, diff, adapter list, events list and tail; suggestions."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from adaptry.cli import main
from adaptry.client import ApiError, Client
from adaptry.commands import adapter_list
from adaptry.terminal.suggestions import suggest
from registry.catalog.overview_order import AdapterSort
from tests.support.servers.registry_threaded import ROOT, registry_server

Run = Callable[..., tuple[int, str, str]]
MOMENT = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ"
DEMO = ROOT / "demo"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registry_server(tmp_path_factory.mktemp("registry")) as url:
        with Client(url) as client:
            for folder in ("adapters/upper", "adapters-v2/upper"):
                client.versions.register("upper", str(DEMO / folder))
            client.versions.register("vowels", str(DEMO / "adapters" / "vowels"))
        yield url


@pytest.fixture
def run(server: str, capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit code, standard output and standard error."""

    def command(*arguments: str) -> tuple[int, str, str]:
        code = main([*arguments, "--server", server])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


def as_json(run: Run, *arguments: str) -> Any:
    code, out, err = run(*arguments, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_undo_shows_the_step_and_takes_it(run: Run) -> None:
    run("adapter", "promote", "upper:2", "--no-warm")
    assert run("undo", "upper", "--dry-run")[1] == "upper@default: 2 -> 1 (not done: --dry-run)\n"
    assert as_json(run, "adapter", "aliases", "upper")[0]["version"] == 2
    assert run("undo", "--no-warm") == (0, "upper@default: 2 -> 1\n", "")
    assert as_json(run, "adapter", "aliases", "upper")[0]["version"] == 1
    assert run("undo", "upper@default", "--no-warm") == (0, "upper@default: 1 -> 2\n", "")
    assert as_json(run, "undo", "upper", "--no-warm")["version"] == 1


def test_undo_brings_a_deleted_alias_back(run: Run) -> None:
    run("adapter", "promote", "upper:2", "--alias", "canary", "--no-warm")
    run("adapter", "unalias", "upper", "canary")
    assert run("undo", "--no-warm") == (0, "upper@canary: deleted -> 2\n", "")


def test_what_never_moved_can_not_be_undone(run: Run) -> None:
    code, out, err = run("undo", "vowels")
    assert (code, out) == (1, "")
    assert "vowels@default has never been anywhere else" in err


def test_two_versions_are_compared(run: Run) -> None:
    code, out, _ = run("diff", "upper:1", "upper:2")
    assert code == 0
    head, *lines = out.splitlines()
    assert head.split() == ["FIELD", "upper:1", "upper:2"]
    fields = {line.split()[0] for line in lines}
    assert {"digest", "size_bytes", "rank"} <= fields
    assert "dtype" not in fields
    found = as_json(run, "diff", "upper:1", "upper:2")
    assert found["differences"]["rank"][0] != found["differences"]["rank"][1]
    assert "the same files" in run("diff", "upper:1", "upper:1")[1]


def test_times_that_differ_are_shown_as_in_other_tables(run: Run) -> None:
    created = next(
        line for line in run("diff", "upper:1", "upper:2")[1].splitlines() if "created_at" in line
    )
    assert re.fullmatch(rf"created_at +{MOMENT} +{MOMENT}", created), created


def test_the_list_shows_versions_aliases_and_times_with_their_zone(run: Run) -> None:
    head, upper, vowels = run("adapter", "list")[1].splitlines()
    assert head.split()[:3] == ["NAME", "VERSIONS", "ALIASES"]
    assert re.match(r"upper +2 +.*default=\d", upper)
    assert re.search(MOMENT, upper)
    assert re.match(r"vowels +1 +default=1 +- +- +", vowels)
    newest = run("adapter", "list", "--sort", "created", "--limit", "1")
    assert newest[1].splitlines()[1].startswith("vowels")
    assert "--limit" in newest[2]
    assert [each["name"] for each in as_json(run, "adapter", "list")] == ["upper", "vowels"]
    assert len(as_json(run, "adapter", "list", "--limit", "1")) == 1


def test_the_list_is_sorted_by_any_column_of_the_table(run: Run) -> None:
    def names(*options: str) -> list[str]:
        return [each["name"] for each in as_json(run, "adapter", "list", *options)]

    assert set(get_args(adapter_list.Sort)) == {*AdapterSort, "used"}
    for sort in get_args(adapter_list.Sort):
        assert sorted(names("--sort", sort)) == ["upper", "vowels"], sort
    assert names("--sort", "versions") == ["vowels", "upper"]
    assert names("--sort", "versions", "--reverse") == ["upper", "vowels"]
    assert names("--reverse") == ["vowels", "upper"]
    assert names("--sort", "created", "--reverse") == ["upper", "vowels"]
    assert names("--sort", "rank", "--text", "owel") == ["vowels"], "as the table finds it"


def test_one_adapter_has_the_times_of_the_list(run: Run) -> None:
    for shown in ("upper", "upper:1"):
        assert re.search(rf"^created_at +{MOMENT}$", run("adapter", "show", shown)[1], re.MULTILINE)


def test_the_list_shows_the_shares_of_a_split(run: Run) -> None:
    run("adapter", "promote", "upper:1", "--alias", "canary", "--no-warm")
    run("adapter", "promote", "upper:2", "--alias", "canary", "--percent", "10", "--no-warm")
    upper = run("adapter", "list", "--text", "upper")[1].splitlines()[1]
    assert "canary=1 (90%), 2 (10%), default=" in upper


def test_the_last_events_are_listed(run: Run) -> None:
    run("adapter", "promote", "upper:2", "--alias", "prod", "--no-warm", "--reason", "better")
    last = run("events", "list", "--limit", "2")[1].splitlines()
    assert len(last) == 2
    assert re.fullmatch(rf"{MOMENT}  \d+  alias.moved  upper@prod: - -> 2  by .+: better", last[1])
    found = as_json(run, "events", "list", "--adapter", "vowels", "--kind", "version.registered")
    assert [each["to_version"] for each in found] == [1]
    code, _, err = run("events", "list", "--kind", "nope")
    assert code == 1
    assert "Input should" not in err


def test_new_events_are_printed_as_they_happen(server: str) -> None:
    # a shell that runs the tests in its background has interrupts ignored, which children inherit
    heeds = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    run = f"{heeds}from adaptry.cli import main\nsys.exit(main())"
    command = [sys.executable, "-c", run, "events", "tail", "--after", "0", "--json"]
    process = subprocess.Popen(
        [*command, "--server", server], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["kind"] == "version.registered"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()


def test_a_folder_that_the_server_can_not_read_is_inspected_here(run: Run, tmp_path: Path) -> None:
    shutil.copytree(DEMO / "adapters" / "upper", tmp_path / "mine")
    code, out, err = run("adapter", "inspect", str(tmp_path / "mine"))
    assert (code, out.splitlines()[0]) == (0, "accepted")
    assert "inspected here" in err
    (tmp_path / "mine" / "adapter_model.safetensors").unlink()
    assert main(["adapter", "inspect", str(tmp_path / "mine"), "--here"]) == 1
    assert run("adapter", "inspect", str(tmp_path / "none"))[0] == 1


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["adapter", "show", "uper"], "did you mean upper?"),
        (["adapter", "aliases", "upper", "--alias", "defualt"], "did you mean upper@default?"),
        (["adapter", "show", "nothing-like-it"], ""),
    ],
)
def test_a_mistyped_name_has_a_suggestion(arguments: list[str], hint: str, run: Run) -> None:
    code, _, err = run(*arguments)
    assert code == 1
    assert hint in err
    assert bool(hint) == ("did you mean" in err)


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (["adapter", "show", "upper:9"], 1, "the newest is upper:2"),
        (["events", "list", "--kind", "alias.movd"], 1, "did you mean alias.moved"),
        (["cache", "show", "--serer", "x"], 2, "--serer: did you mean --server?"),
        (["adapter", "list", "--limit", "0"], 2, "'--limit': must be at least 1"),
        (["adapter", "list", "--sort", "usd"], 2, "'--sort': 'usd' is not one of"),
        (["adapter", "rollback", "upper", "--revision", "x"], 2, "must be a whole number"),
        (["events", "list", "--since", "noon"], 2, "'noon' does not match"),
        (["job", "cancel"], 2, "name one job"),
    ],
)
def test_a_mistake_is_told_in_plain_words(
    arguments: list[str], exit_code: int, said: str, run: Run
) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (exit_code, "")
    assert said in err
    assert not re.search("Input should|Value error|unable to parse", err)


def test_an_error_is_json_where_json_was_asked_for(run: Run) -> None:
    code, out, err = run("adapter", "show", "uper", "--json")
    assert (code, out) == (1, "")
    said = json.loads(err)
    assert (said["code"], said["exit_code"]) == ("unknown_adapter", 1)
    assert "did you mean upper?" in said["error"]


def test_whoami_says_what_a_caller_without_a_key_may_do(run: Run) -> None:
    assert run("whoami")[1].splitlines() == [
        "name     api",
        "tenant   none: the platform",
        "scopes   admin, infer, operate, publish",
        "key      none: this server asks for none",
    ]
    assert as_json(run, "whoami")["prefix"] is None


def test_a_folder_of_this_machine_is_advised_to_be_pushed_beside_any_option(tmp_path: Path) -> None:
    error = ApiError(403, "source_not_allowed", "no")
    asked = ["adapter", "add", "bot", "--description", "very " * 100]
    assert suggest(error, asked) == ""
    assert "adaptry adapter push" in suggest(error, [*asked, str(tmp_path)])
    assert suggest(error, [*asked, "./nope"]) == "on this machine there is no ./nope"
    assert suggest(error, [*asked, __file__]) == ""


@pytest.mark.parametrize(
    ("detail", "hint"),
    [
        ("the model 'uper' does not exist", "did you mean upper?"),
        (
            "the model 'upper@defualt' does not exist: adapter 'upper' has no alias 'defualt'",
            "did you mean upper@default?",
        ),
    ],
)
def test_an_unknown_model_is_suggested_like_an_unknown_adapter(
    server: str, detail: str, hint: str
) -> None:
    error = ApiError(404, "model_not_found", detail)
    assert suggest(error, ["--server", server]) == hint


def test_an_alias_that_was_not_there_yet_is_not_suggested_for_itself(run: Run) -> None:
    asked = ("adapter", "aliases", "upper", "--at", "2020-01-01T00:00Z", "--alias")
    said = run(*asked, "default")[2]
    assert "had no alias 'default' at 2020" in said
    assert "did you mean" not in said
    assert "did you mean upper@default?" in run(*asked, "defualt")[2]


def test_no_newest_version_is_looked_for_among_very_many(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "the newest is upper:2" in run("adapter", "show", "upper:9")[2]
    monkeypatch.setattr("adaptry.terminal.suggestions.MOST_NAMES", 2)
    assert "newest" not in run("adapter", "show", "upper:9")[2]


@pytest.mark.parametrize(
    ("code", "detail"),
    [
        ("host_unknown", "there is no address for the host 'hooks.exampel.com'"),
        ("invalid_request", "body.url: 'https://hooks.exampel.com/a' is no webhook's"),
    ],
)
def test_what_was_refused_is_not_suggested(code: str, detail: str) -> None:
    arguments = ["webhook", "add", "https://hooks.exampel.com/a"]
    assert suggest(ApiError(422, code, detail), arguments) == ""


def test_undo_leaves_aliases_alone_that_were_never_elsewhere(run: Run) -> None:
    run("adapter", "promote", "upper:1", "--no-warm")
    run("adapter", "promote", "upper:2", "--no-warm")
    run("adapter", "promote", "vowels:1", "--alias", "new", "--no-warm")
    assert run("undo", "--no-warm") == (0, "upper@default: 2 -> 1\n", "")
