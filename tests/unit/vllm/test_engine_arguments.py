"""vLLM's arguments: our defaults, reserved ones, and errors in one line.

vLLM's own parser reads them; importing it takes most of the time here.
"""

import ast
import importlib.util
import os
from pathlib import Path

import pytest
from vllm import envs

from adaptry.serve.option_names import LISTED, vllm_options
from engine.vllm import compat as vllm_compat
from engine.vllm.arguments import (
    NOT_HEEDED,
    WORKER_EXTENSION,
    BadArgument,
    parse_engine_arguments,
    prefer_one_worker_process,
    secrets_in,
)

MULTIPROCESSING = "VLLM_ENABLE_V1_MULTIPROCESSING"


def test_without_arguments_there_is_something_to_control() -> None:
    parsed = parse_engine_arguments("some/model", [])
    assert (parsed.model, parsed.model_tag) == ("some/model", "some/model")
    assert (parsed.max_loras, parsed.max_cpu_loras) == (4, 16)
    assert parsed.host == "127.0.0.1"


def test_lora_our_worker_extension_and_one_server_are_always_on() -> None:
    parsed = parse_engine_arguments("m", [])
    assert parsed.enable_lora is True
    assert parsed.worker_extension_cls == "engine.worker.extension.AdapterCacheExtension"
    assert parsed.api_server_count == 1


def test_the_worker_extension_is_where_vllm_looks_for_it() -> None:
    module, _, name = WORKER_EXTENSION.rpartition(".")
    found = importlib.util.find_spec(module)  # importing it would patch vLLM in this process
    assert found is not None
    assert found.origin is not None
    tree = ast.parse(Path(found.origin).read_text(encoding="utf-8"))
    assert name in {each.name for each in tree.body if isinstance(each, ast.ClassDef)}


@pytest.mark.parametrize(
    ("arguments", "slots", "host_adapters"),
    [
        (["--max-loras", "2"], 2, 8),
        (["--max_loras=2"], 2, 8),
        (["--max-loras=2", "--max-loras=3"], 3, 12),
        (["--max-cpu-loras", "5"], 4, 5),
        (["--max_cpu_loras=9", "--max-loras", "8"], 8, 9),
    ],
)
def test_host_memory_follows_the_slots_unless_given(
    arguments: list[str], slots: int, host_adapters: int
) -> None:
    parsed = parse_engine_arguments("m", arguments)
    assert (parsed.max_loras, parsed.max_cpu_loras) == (slots, host_adapters)


def test_other_arguments_are_vllms_own() -> None:
    parsed = parse_engine_arguments(
        "m",
        [
            *("--host", "::1", "--port=9", "--enable-lora", "--api-server-count", "1"),
            *("--served-model-name", "a", "b", "--max-model-len", "1k", "-tp", "2"),
            *("--compilation-config.mode", "0", "--no-enable-prefix-caching"),
        ],
    )
    assert (parsed.host, parsed.port) == ("::1", 9)
    assert parsed.served_model_name == ["a", "b"]
    assert (parsed.max_model_len, parsed.tensor_parallel_size) == (1000, 2)
    assert parsed.enable_prefix_caching is False
    assert parsed.compilation_config.mode == 0


@pytest.mark.parametrize(("arguments", "docs"), [([], True), (["--disable-fastapi-docs"], False)])
def test_the_docs_need_no_network(arguments: list[str], docs: bool) -> None:
    assert parse_engine_arguments("m", arguments).enable_offline_docs is docs


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--lora-modules", "a=b"], "--lora-path"),
        (["--lora_modules=a=b"], "--lora-path"),
        (["--default-mm-loras.audio=/a"], "past the cache controller"),
        (["--no-enable-lora"], "adapters are what it serves"),
        (["--worker-extension-cls", "x.Y"], "cache control"),
        (["--headless"], "cache controller"),
        (["--grpc"], "HTTP server"),
        (["--uds", "/tmp/socket"], "--host and --port"),
        (["--config", "file.yaml"], "--profile"),
        (["--config=file.yaml"], "--profile"),
    ],
)
def test_what_cache_control_owns_is_refused_with_the_reason(
    arguments: list[str], reason: str
) -> None:
    said = complaint(*arguments)
    option = arguments[0].partition("=")[0].partition(".")[0].replace("_", "-")
    assert said.startswith(f"{option} can't be used with adaptry serve: ")
    assert reason in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--api-server-count", "2"], "--api-server-count must be 1: "),
        (["-asc", "0"], "--api-server-count must be 1: "),
        (["--data-parallel-size", "2"], "--data-parallel-size must be 1: "),
        (["-dp=2"], "--data-parallel-size must be 1: "),
        (["--no-such-option"], "unrecognized arguments: --no-such-option"),
        (["--lora-mod", "a=b"], "unrecognized arguments: --lora-mod a=b"),
        (["second-model"], "unrecognized arguments: second-model"),
        (["--max-loras", "many"], "argument --max-loras: invalid int value: 'many'"),
        (["--max-loras"], "argument --max-loras: expected one argument"),
        (["--compilation-config.mode"], "argument --compilation-config.mode: expected one"),
        (["--compilation-config", "{"], "argument --compilation-config/-cc: "),
        (["--enable-auto-tool-choice"], "--enable-auto-tool-choice requires --tool-call-parser"),
        (["--chat-template", "no.jinja"], "The supplied chat template string (no.jinja) "),
        (["--sse-keep-alive-interval=-1"], "--sse-keep-alive-interval must be "),
    ],
)
def test_a_bad_argument_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = complaint(*arguments)
    assert said.startswith(message)
    assert "\n" not in said
    assert "usage:" not in capsys.readouterr().err


def test_one_rank_on_the_cpu_runs_in_the_engines_process(monkeypatch: pytest.MonkeyPatch) -> None:
    unset_for_this_test(monkeypatch, MULTIPROCESSING)
    parsed = parse_engine_arguments("m", [])
    prefer_one_worker_process(parsed)
    on_cpu = vllm_compat.is_cpu_build()
    assert parsed.distributed_executor_backend == ("uni" if on_cpu else None)
    assert os.environ.get(MULTIPROCESSING) == ("0" if on_cpu else None)


@pytest.mark.parametrize(
    "arguments", [["-tp", "2"], ["-pp", "2"], ["--distributed-executor-backend", "mp"]]
)
def test_more_ranks_and_a_chosen_backend_stay_as_they_are(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    unset_for_this_test(monkeypatch, MULTIPROCESSING)
    parsed = parse_engine_arguments("m", arguments)
    before = parsed.distributed_executor_backend
    prefer_one_worker_process(parsed)
    assert parsed.distributed_executor_backend == before
    assert os.environ.get(MULTIPROCESSING) is None


def complaint(*arguments: str) -> str:
    with pytest.raises(BadArgument) as refused:
        parse_engine_arguments("m", arguments)
    return str(refused.value)


def unset_for_this_test(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "")  # so that it is as before afterwards, set or not
    monkeypatch.delenv(variable)


@pytest.mark.parametrize("variable", NOT_HEEDED)
def test_no_variable_lets_a_client_past_the_registry(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variable: str
) -> None:
    """By a path that it names, or by a name that is none of a model's."""
    monkeypatch.setenv(variable, "1")
    assert getattr(envs, variable) is True
    parse_engine_arguments("model", [])
    assert getattr(envs, variable) is False
    (record,) = caplog.records
    assert record.getMessage() == f"{variable} is not heeded: {NOT_HEEDED[variable]}"


def test_the_keys_among_the_arguments_are_known_as_secrets() -> None:
    assert secrets_in(parse_engine_arguments("m", [])) == []
    parsed = parse_engine_arguments("m", ["--api-key", "k1", "k2", "--hf-token", "h"])
    assert sorted(secrets_in(parsed)) == ["h", "k1", "k2"]


def test_the_names_that_are_checked_before_vllm_is_imported_are_its_own() -> None:
    assert vllm_compat.installed_version().startswith(LISTED), "list the new release's options"
    parser = vllm_compat.argument_parser()
    found = {name for action in parser._actions for name in action.option_strings}
    assert {name for name in found if name.startswith("--")} == set(vllm_options())
