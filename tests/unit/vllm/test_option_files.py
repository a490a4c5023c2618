"""Files that vLLM's options name: what can't be used is one line, before an engine starts."""

import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from adaptry.serve import modes
from adaptry.serve.arguments import parse
from adaptry.terminal.errors import UsageError
from engine.vllm.arguments import BadArgument, parse_engine_arguments
from engine.vllm.option_files.checks import check_logging_variable, use_option_files
from registry.settings import RegistrySettings
from tests.support.certificate import write_certificate

LOG_CONFIG = "--logging-config.pylogging_config_file"
PARSER = """
from vllm.tool_parsers import ToolParserManager
from vllm.tool_parsers.hermes_tool_parser import Hermes2ProToolParser

ToolParserManager.register_module("ours", module=Hermes2ProToolParser)
"""

Write = Callable[[str, str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(name: str, text: str) -> str:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return write_file


def use(*given: str) -> None:
    use_option_files(parse_engine_arguments("m", given))


def complaint(*given: str) -> str:
    with pytest.raises(BadArgument) as refused:
        use(*given)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[1]", "is no logging configuration: it holds no object"),
        ('{"version": 2}', "Unsupported version: 2"),
        ('{"a": 1}', "doesn't specify a version"),
        ('{"version": 1, "formatters": 1}', "'int' object"),
        (
            '{"version": 1, "incremental": true, "handlers": {"no": {"level": "LOUD"}}}',
            "No handler found with name 'no'",
        ),
        (
            '{"version": 1, "incremental": true, "loggers": {"adaptry.none": {"level": "LOUD"}}}',
            "Unable to configure logger 'adaptry.none': Unknown level: 'LOUD'",
        ),
    ],
)
def test_what_is_no_logging_configuration_is_told(write: Write, content: str, said: str) -> None:
    file = write("logging.json", content)
    found = complaint(f"{LOG_CONFIG}={file}")
    assert found.startswith(f"--log-config-file {file}")
    assert said in found


def test_the_older_option_is_checked_too(write: Write) -> None:
    file = write("logging.json", "[]")
    with pytest.warns(UserWarning, match="deprecated"):
        parsed = parse_engine_arguments("m", ["--log-config-file", file])
    with pytest.raises(BadArgument, match="it holds no object"):
        use_option_files(parsed)


def test_a_logging_configuration_is_in_force_before_an_engine_is_there(write: Write) -> None:
    levels = {"adaptry.of_this_test": {"level": "ERROR"}}
    use(
        LOG_CONFIG,
        write("l.json", json.dumps({"version": 1, "incremental": True, "loggers": levels})),
    )
    assert logging.getLogger("adaptry.of_this_test").level == logging.ERROR


@pytest.mark.parametrize("content", ["[]", "{"])
def test_the_variable_that_vllm_reads_when_it_is_imported_is_checked(
    write: Write, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_LOGGING_CONFIG_PATH", write("logging.json", content))
    with pytest.raises(BadArgument, match=r"VLLM_LOGGING_CONFIG_PATH .*logging\.json is no"):
        check_logging_variable()


@pytest.mark.parametrize(
    "option",
    ["--ssl-keyfile", "--ssl-certfile", "--ssl-ca-certs", LOG_CONFIG, "--tool-parser-plugin"],
)
def test_a_file_that_is_not_there_is_told(option: str, tmp_path: Path) -> None:
    said = complaint(option, str(tmp_path / "none.py"))
    assert str(tmp_path / "none.py") in said
    assert "No such file or directory" in said


@pytest.mark.parametrize("option", ["--ssl-certfile", LOG_CONFIG, "--chat-template"])
def test_a_folder_in_place_of_a_file_is_told(option: str, tmp_path: Path) -> None:
    assert "directory" in complaint(option, str(tmp_path))


def test_a_template_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "t.jinja").write_bytes(b"\xff\xfe")
    assert "is no text" in complaint("--chat-template", str(tmp_path / "t.jinja"))


def test_a_template_is_a_file_or_written_out(write: Write) -> None:
    use("--chat-template", write("t.jinja", "{{ messages }}"))
    use("--chat-template", "{{ messages }}" * 1000)


def test_tls_is_checked_as_it_will_be_used(write: Write, tmp_path: Path) -> None:
    pem = str(write_certificate(tmp_path, "localhost"))
    other = str(write_certificate(_folder(tmp_path / "other"), "localhost"))
    text = write("text.pem", "no certificate")
    use("--ssl-certfile", pem, "--ssl-keyfile", pem, "--ssl-ca-certs", other)
    assert complaint("--ssl-keyfile", pem) == "--ssl-keyfile needs --ssl-certfile"
    assert complaint("--ssl-certfile", text).startswith("--ssl-certfile can't be used: ")
    said = complaint("--ssl-certfile", pem, "--ssl-keyfile", other)
    assert said.startswith("--ssl-certfile with --ssl-keyfile can't be used: ")
    tls = ("--ssl-certfile", pem)
    assert complaint(*tls, "--ssl-ca-certs", text).startswith("--ssl-ca-certs can't be used")
    assert complaint(*tls, "--ssl-ciphers", "NONE-SUCH").startswith("--ssl-ciphers can't be")
    assert complaint(*tls, "--ssl-cert-reqs", "7").startswith("--ssl-cert-reqs can't be used")


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_local_media_are_in_a_folder(write: Write, tmp_path: Path) -> None:
    use("--allowed-local-media-path", str(tmp_path))
    said = complaint("--allowed-local-media-path", write("file", ""))
    assert said.endswith("there is no such folder")


def test_a_parser_of_a_plugin_can_be_chosen(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM takes a path that begins with a dot for the name of a module."""
    write("parser_of_ours.py", PARSER)
    monkeypatch.chdir(tmp_path)
    chosen = ("--enable-auto-tool-choice", "--tool-call-parser", "ours")
    parsed = parse_engine_arguments("m", [*chosen, "--tool-parser-plugin", "./parser_of_ours.py"])
    try:
        use_option_files(parsed)
    finally:
        sys.modules.pop("parser_of_ours", None)
    assert parsed.tool_parser_plugin == os.path.join(tmp_path, "parser_of_ours.py")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--tool-call-parser", "nobodys"], "--tool-call-parser nobodys: there is none of that"),
        (["--reasoning-parser", "nobodys"], "--reasoning-parser nobodys: there is none of that"),
        (["--tool-parser-plugin", "nobodys.module"], "No module named 'nobodys'"),
        (["--middleware", "nobodys.module.Name"], "No module named 'nobodys'"),
        (["--middleware", "json.Nothing"], "has no attribute 'Nothing'"),
        (["--middleware", "nothing"], "--middleware nothing can't be imported"),
    ],
)
def test_what_nobody_has_can_t_be_chosen(given: list[str], said: str) -> None:
    auto = ["--enable-auto-tool-choice", "--tool-call-parser", "hermes"]
    assert said in complaint(*auto, *given)


def test_a_plugin_that_breaks_is_one_line(write: Write) -> None:
    file = write("broken_plugin.py", "raise RuntimeError('one\\ntwo')")
    said = complaint("--reasoning-parser-plugin", file)
    assert said == f"--reasoning-parser-plugin {file} can't be imported: RuntimeError: one two"
    text = complaint("--reasoning-parser-plugin", write("plugin.txt", "text"))
    assert text.endswith("it is no Python file")


def test_tls_is_no_silent_promise_of_several_engines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their clients ask Ray's proxy, or an ingress, and neither knows the files."""
    pem = str(write_certificate(tmp_path, "localhost"))
    monkeypatch.setattr("fleet.ray.launch.prepare_environment", lambda url: None)
    tls = ("--ssl-certfile", pem)
    stock = parse(["m", "--engines", "http://a:1", *tls])
    with pytest.raises(UsageError, match="--ssl-certfile has no effect with --engines"):
        modes.serve_stock_engines(stock, RegistrySettings())
    with pytest.raises(UsageError, match="--ssl-certfile has no effect with --replicas"):
        modes.serve_replicas(parse(["m", "--replicas", "2", *tls]), RegistrySettings(), 2)
