"""Features of every command: JSON, the API key, and shell completion."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import typer
from typer.core import TyperCommand, TyperGroup

from adaptry.cli import app, main
from adaptry.client import Client
from tests.support.servers.registry_threaded import ROOT, registry_server
from tests.support.servers.scripted_http import answering

WITHOUT_A_SERVER = {"events verify", "grafana export"}
SERVERS = {"serve", "demo"}  # they are servers, and answer nothing themselves


def commands() -> Iterator[tuple[str, TyperCommand]]:
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    for name, command in root.commands.items():
        if isinstance(command, TyperGroup):
            for verb, each in command.commands.items():
                assert isinstance(each, TyperCommand)
                yield f"{name} {verb}", each
        elif name not in SERVERS:
            assert isinstance(command, TyperCommand)
            yield name, command


COMMANDS = dict(commands())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_json_and_help(name: str) -> None:
    command = COMMANDS[name]
    options = {option for parameter in command.params for option in parameter.opts}
    assert "--json" in options
    assert "--server" in options or name.startswith("db ") or name in WITHOUT_A_SERVER
    assert (command.help or "").strip()


def test_the_commands_that_a_user_expects_are_there() -> None:
    adapter = "add list show versions promote rollback retire gc export import"
    cache = "show pin unpin prefetch evict why top"
    wanted = {f"adapter {verb}" for verb in adapter.split()}
    wanted |= {f"cache {verb}" for verb in cache.split()}
    assert wanted | {"why", "bench", "doctor", "db upgrade"} <= set(COMMANDS)


def test_help_explains_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Exit codes: 0 success; 1 " in shown
    assert "ADAPTRY_API_KEY" in shown


def test_the_key_of_the_environment_is_sent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pin = {"reference": "upper:1", "tier": "gpu", "expires_at": None, "replicas": None, "new": 1}
    with answering() as server:
        for key in ("secret", ""):
            server.will_say(200, {"items": [pin], "next_page_token": None})
            monkeypatch.setenv("ADAPTRY_API_KEY", key)
            assert main(["cache", "pins", "--json", "--server", server.url]) == 0
            assert json.loads(capsys.readouterr().out) == [pin]
    assert server.keys == ["Bearer secret", None]


def test_another_server_is_a_one_line_error(capsys: pytest.CaptureFixture[str]) -> None:
    with answering() as server:
        for status, body in ((200, b"<html>"), (502, b"<html>"), (200, b"{}")):
            for _ in range(2 if status == 200 else 1):  # of whom the command asks once more
                server.will_say(status, body)
            assert main(["cache", "show", "--server", server.url]) == 1
            captured = capsys.readouterr()
            assert (captured.out, captured.err.count("\n")) == ("", 1)
            assert captured.err.startswith("adaptry: ")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registry_server(tmp_path_factory.mktemp("registry")) as url:
        with Client(url) as client:
            for name in ("upper", "vowels"):
                client.versions.register(name, str(ROOT / "demo" / "adapters" / name))
            client.aliases.set("upper", "live", version=1)
        yield url


def completed(server: str, line: str) -> list[str]:
    """The completions that bash gets for the last word of a line."""
    environment = {
        **os.environ,
        "ADAPTRY_SERVER": server,
        "_ADAPTRY_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-m", "adaptry"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("adaptry cac", ["cache"]),
        ("adaptry cache pin u", ["upper"]),
        ("adaptry cache why upper@", ["upper@default", "upper@live"]),
        ("adaptry cache why upper:", ["upper:1"]),
        ("adaptry adapter promote v", ["vowels:1"]),
        ("adaptry adapter unalias upper l", ["live"]),
        ("adaptry adapter versions ", ["upper", "vowels"]),
        ("adaptry adapter show nobody:", []),
    ],
)
def test_completion_offers_the_server_s_names(server: str, line: str, offered: list[str]) -> None:
    assert completed(server, line) == offered


def test_without_a_server_completion_offers_nothing() -> None:
    assert completed("http://127.0.0.1:1", "adaptry cache pin u") == []
    assert completed("nonsense", "adaptry cache pin u") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_can_be_shown_for_a_shell(shell: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "adaptry", "--show-completion", shell],
        env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "_ADAPTRY_COMPLETE" in done.stdout or "_adaptry" in done.stdout
