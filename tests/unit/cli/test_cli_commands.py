"""The command line: what it prints, on which stream, and its exit codes."""

import errno
import importlib.metadata
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from adaptry.cli import main
from registry.settings import RegistrySettings

NOBODY = "http://127.0.0.1:1"


def one_line(captured: str) -> str:
    assert captured.startswith("adaptry: ")
    assert captured.count("\n") == 1
    return captured.strip()


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        pytest.param(["nope"], 2, "No such command 'nope'", id="no such command"),
        pytest.param(["promote", "a:1"], 2, "Did you mean 'adapter promote'?", id="no noun"),
        pytest.param(["help"], 2, "Did you mean '--help'?", id="help is an option"),
        pytest.param(["cache", "nope"], 2, "No such command 'nope'", id="no such verb"),
        pytest.param(["cache", "show", "--nope"], 2, "--nope", id="no such option"),
        pytest.param(["cache", "pin"], 2, "REFERENCE", id="missing argument"),
        pytest.param(["cache", "pin", "a", "--tier", "disk"], 2, "--tier", id="bad choice"),
        pytest.param(["demo", "--port", "x"], 2, "--port", id="bad number"),
        pytest.param(["adapter", "promote", "upper"], 2, "NAME:VERSION", id="no version"),
        pytest.param(["cache", "show", "--server", "x"], 2, "http://HOST", id="bad url"),
        pytest.param(["cache", "show", "--server", NOBODY], 1, "no answer", id="no server"),
        pytest.param(["db", "upgrade", "--database", "x"], 2, "database URL", id="bad database"),
        pytest.param(
            ["db", "upgrade", "--database", "sqlite+aiosqlite:////proc/none/x.db"],
            1,
            "can't be used",
            id="database out of reach",
        ),
        pytest.param(["serve"], 2, "base model", id="serve without a model"),
    ],
)
def test_an_error_is_one_line_on_stderr(
    arguments: list[str], exit_code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == exit_code
    captured = capsys.readouterr()
    assert message in one_line(captured.err)
    assert not captured.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/nope"], "there is no folder /nope"),
        (["./nope"], "there is no folder ./nope"),
        (["/tmp"], "/tmp holds no model: there is no config.json"),
        (["org/model", "--max-lorras", "3"], "no option --max-lorras: did you mean --max-loras"),
        (["org/model", "--databse=x"], "no option --databse: did you mean --database"),
        (["org/model", "--lora-modules", "a=b"], "--lora-path"),
    ],
)
def test_a_mistake_of_serve_is_one_line_before_vllm_is_imported(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "adaptry", "serve", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    (line,) = (each for each in lines if not each.startswith("import time:"))
    assert line.startswith("adaptry: ")
    assert message in line
    assert not [each for each in lines if each.endswith((" vllm", " torch"))]
    assert not list(tmp_path.iterdir()), "it leaves nothing behind"


@pytest.mark.parametrize("group", [[], ["adapter"], ["cache"], ["db"]])
def test_a_group_without_a_command_shows_its_help(
    group: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(group) == 0
    assert "Commands:" in capsys.readouterr().out


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"adaptry {importlib.metadata.version('adaptry')}\n"


def test_a_database_is_created_and_printed_without_its_password(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'new' / 'registry.db'}"
    assert main(["db", "upgrade", "--database", url]) == 0
    assert capsys.readouterr().out == f"up to date: {url}\n"
    assert (tmp_path / "new" / "registry.db").stat().st_size > 0


def test_the_database_is_the_one_that_the_registry_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ADAPTRY_DATABASE_URL", raising=False)
    assert main(["db", "upgrade"]) == 0
    assert RegistrySettings().database_url in capsys.readouterr().out
    assert list(tmp_path.rglob("registry.db"))


def test_a_busy_port_stops_the_demo_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        assert main(["demo", "--port", port, "--state", str(tmp_path)]) == 1
    assert f"port {port}" in one_line(capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_output_that_nobody_reads_ends_a_command_quietly() -> None:
    program = "import sys; from adaptry.cli import main; sys.exit(main(['--help']))"
    read, written = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=written, stderr=subprocess.PIPE, check=False
    )
    os.close(written)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_broken_pipe_to_another_process_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when an engine ends while it starts."""

    def send(arguments: list[str]) -> int:
        raise BrokenPipeError

    monkeypatch.setattr("adaptry.cli._run", send)
    with open(os.devnull, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        with pytest.raises(BrokenPipeError):
            main(["serve", "any"])


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["cache"], ["serve", "-h"]],
)
@pytest.mark.parametrize("to", ["/dev/full", "closed"])
def test_output_that_cannot_be_written_is_one_line(arguments: list[str], to: str) -> None:
    """On a disk that is full, and where standard output was closed."""
    program = f"import sys; from adaptry.cli import main; sys.exit(main({arguments!r}))"
    redirect = "exec >&-" if to == "closed" else f"exec >{to}"
    done = subprocess.run(
        ["sh", "-c", f'{redirect}; exec "$0" -c "$1"', sys.executable, program],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if to == "closed" and arguments[0] == "serve":  # a service may have none
        assert done.returncode == 0
        return
    assert done.returncode == 1
    assert "standard output can't be written" in one_line(done.stderr)


def test_bytes_for_an_output_that_was_closed_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def export(arguments: list[str]) -> int:
        return sys.stdout.buffer.write(b"any")

    monkeypatch.setattr("adaptry.cli._run", export)
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["export", "-"]) == 1
    assert "standard output can't be written" in one_line(capsys.readouterr().err)


def test_a_full_disk_elsewhere_is_not_taken_for_standard_output(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def write(arguments: list[str]) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("adaptry.cli._run", write)
    with pytest.raises(OSError, match="No space left"):
        main(["adapter", "pull"])


def test_help_loads_neither_the_engine_nor_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "adaptry", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "serve" in done.stdout
    assert "import time:" in done.stderr
    assert not [line for line in done.stderr.splitlines() if line.endswith((" vllm", " torch"))]
