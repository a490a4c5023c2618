"""Arguments of `adaptry serve`: our options, vLLM's, and errors."""

import re
import socket
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from adaptry.serve import modes
from adaptry.serve.adapter_folders import linked_files
from adaptry.serve.arguments import ServeArguments, parse
from adaptry.serve.command import _check_exposure, _listen, _registry_settings, run
from adaptry.terminal.errors import UsageError
from engine.settings import EngineSettings
from fleet.options import FleetOptions, ReplicaClass
from fleet.process import fleet_rank, gpus_of
from fleet.stock.launch import server_name
from registry.settings import RegistrySettings

WriteProfile = Callable[[str], str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An adapter's folder; only its name matters here."""
    made = tmp_path / "SQL-v1"
    made.mkdir()
    return made


@pytest.fixture
def profile(tmp_path: Path) -> WriteProfile:
    def write(text: str) -> str:
        path = tmp_path / "profile.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_a_model_alone_has_our_defaults() -> None:
    arguments = parse(["some/model"])
    assert arguments.model == "some/model"
    assert (arguments.host, arguments.port) == ("127.0.0.1", 8000)
    assert (arguments.database, arguments.store) == (None, None)
    assert not arguments.source_roots + arguments.source_urls + arguments.adapters + arguments.vllm
    assert arguments.settings == {}


def test_our_options_are_parsed_and_the_rest_stays_in_order() -> None:
    ours = "--database sqlite:///a.db --store s --source-root r1 r2 --host ::1 --port=9"
    vllms = "--max-loras 8 -O3 --compilation-config.pass_config.fuse_it true --seed -1"
    urls = "--source-url s3://team https://models.example.com"
    arguments = parse(f"m -tp 2 {ours} {urls} {vllms} --source-root r3".split())
    assert arguments.source_urls == ("s3://team", "https://models.example.com")
    assert (arguments.host, arguments.port) == ("::1", 9)
    assert (arguments.database, arguments.store) == ("sqlite:///a.db", Path("s"))
    assert arguments.source_roots == (Path("r1"), Path("r2"), Path("r3"))
    assert arguments.vllm == ("-tp", "2", *vllms.split())


def test_some_settings_have_their_own_options(profile: WriteProfile) -> None:
    path = profile("adaptry: {max_waiting: 7, host_cache_bytes: 1GiB}")
    arguments = parse(
        ["m", "--profile", path, "--preload", "a", "b@c", "--host-cache-bytes", "2MiB"]
    )
    settings = EngineSettings(**arguments.settings)
    assert settings.preload == ("a", "b@c")
    assert (settings.host_cache_bytes, settings.max_waiting) == (2 * 2**20, 7)


def test_an_untested_vllm_needs_an_option() -> None:
    assert not parse(["m"]).allow_untested_vllm
    assert parse(["m", "--allow-untested-vllm"]).allow_untested_vllm


def test_underscores_are_dashes_as_vllm_reads_them(folder: Path) -> None:
    arguments = parse(
        [
            "m",
            f"--lora_path=a_b={folder}",
            "--max_loras=8",
            "--enforce_eager",
            "--compilation_config.y_z",
        ]
    )
    assert arguments.adapters == (("a_b", folder),)
    assert arguments.vllm == ("--max-loras=8", "--enforce-eager", "--compilation-config.y_z")


@pytest.mark.parametrize("form", [["--model", "m"], ["--model=m"]])
def test_the_model_may_follow_its_option(form: list[str]) -> None:
    arguments = parse(["--max-loras", "8", *form, "--seed", "1"])
    assert arguments.model == "m"
    assert arguments.vllm == ("--max-loras", "8", "--seed", "1")


def test_a_folder_without_a_name_keeps_its_own(folder: Path) -> None:
    assert parse(["m", "--lora-path", str(folder)]).adapters == (("sql-v1", folder),)


def test_many_folders_one_option_or_several(folder: Path, tmp_path: Path) -> None:
    arguments = parse(
        ["m", "--lora-path", str(folder), f"b={folder}", "--seed", "1", f"--lora-path=c={tmp_path}"]
    )
    assert arguments.adapters == (("sql-v1", folder), ("b", folder), ("c", tmp_path))
    assert arguments.vllm == ("--seed", "1")


def test_a_folder_becomes_absolute(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert parse(["m", "--lora-path", "."]).adapters == (("sql-v1", folder),)


def test_a_folder_may_have_an_equals_sign(tmp_path: Path) -> None:
    odd = tmp_path / "run=3"
    odd.mkdir()
    assert parse(["m", "--lora-path", f"a={odd}"]).adapters == (("a", odd),)
    with_it_in_a_parent = odd / "sql"
    with_it_in_a_parent.mkdir()
    arguments = parse(["m", "--lora-path", str(with_it_in_a_parent)])
    assert arguments.adapters == (("sql", with_it_in_a_parent),)


@pytest.mark.parametrize("form", [["--served-model-name", "sql"], ["--served_model_name=sql"]])
def test_one_nameless_folder_is_served_under_the_served_model_name(
    form: list[str], folder: Path
) -> None:
    arguments = parse(["m", "--lora-path", str(folder), *form, "--seed", "1"])
    assert arguments.adapters == (("sql", folder),)
    assert arguments.vllm == ("--seed", "1")


@pytest.mark.parametrize("folders", [["a={0}"], ["{0}", "b={0}"], []])
def test_else_the_served_model_names_are_the_base_models(folders: list[str], folder: Path) -> None:
    lora_path = ["--lora-path", *(text.format(folder) for text in folders)] if folders else []
    arguments = parse(["m", *lora_path, "--served-model-name", "x", "y"])
    assert arguments.vllm == ("--served-model-name", "x", "y")


def test_the_demo_profile_is_found_by_name_and_fits_the_settings() -> None:
    arguments = parse(["m", "--profile", "demo"])
    assert EngineSettings(**arguments.settings).max_slot_wait_seconds == 1.0
    assert {"--max-loras=2", "--enforce-eager", "--served-model-name=tiny-text-tools"} <= set(
        arguments.vllm
    )


def test_each_kind_of_value_in_a_profile(profile: WriteProfile) -> None:
    path = profile(
        """
        adaptry: {max_waiting: 7}
        vllm:
          max_loras: 2
          enforce-eager: true
          enable-prefix-caching: false
          seed:
          middleware: []
          lora-target-modules: [q_proj, v_proj]
          compilation-config: {pass_config: {fuse_it: true}}
        """
    )
    arguments = parse(["m", "--profile", path])
    assert arguments.settings == {"max_waiting": 7}
    assert arguments.vllm == (
        "--max-loras=2",
        "--enforce-eager",
        "--no-enable-prefix-caching",
        *("--lora-target-modules", "q_proj", "v_proj"),
        '--compilation-config={"pass_config": {"fuse_it": true}}',
    )


def test_a_profile_may_lack_a_section_or_leave_it_empty(profile: WriteProfile) -> None:
    assert parse(["m", "--profile", profile("vllm:")]).vllm == ()
    assert parse(["m", "--profile", profile("adaptry:\n  max_loads: 1")]).vllm == ()


@pytest.mark.parametrize(
    ("line", "given"),
    [
        ("max-loras: 2", ["--max-loras", "8"]),
        ("max_loras: 2", ["--max-loras=8"]),
        ("enforce-eager: true", ["--no-enforce-eager"]),
        ("enable-prefix-caching: false", ["--enable-prefix-caching"]),
        ("no-enable-prefix-caching: true", ["--enable-prefix-caching"]),
        ("served-model-name: x", ["--served-model-name", "y"]),
    ],
)
def test_the_command_line_overrides_the_profile(
    profile: WriteProfile, line: str, given: list[str]
) -> None:
    arguments = parse(["m", "--profile", profile(f"vllm: {{{line}, seed: 3}}"), *given])
    assert arguments.vllm == ("--seed=3", *given)


def test_the_adapters_name_leaves_the_base_models_in_the_profile(
    profile: WriteProfile, folder: Path
) -> None:
    path = profile("vllm: {served-model-name: base}")
    arguments = parse(
        ["m", "--profile", path, "--lora-path", str(folder), "--served-model-name", "sql"]
    )
    assert arguments.adapters == (("sql", folder),)
    assert arguments.vllm == ("--served-model-name=base",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "name the base model first: adaptry serve MODEL [options]"),
        ("--max-loras 8 some/model", "name the base model first: adaptry serve MODEL [options]"),
        ("--model=", "name the base model first: adaptry serve MODEL [options]"),
        ("--model", "argument --model: expected one argument"),
        ("m --model n", "one base model: 'm' or --model 'n'"),
        ("m n --max-loras 8", "'n' stands where an option is expected"),
        ("m --port 1 n", "'n' stands where an option is expected"),
        ("m --port x", "argument --port: 'x' is not a port (0 to 65535)"),
        ("m --port 65536", "argument --port: '65536' is not a port (0 to 65535)"),
        ("m --host=", "argument --host: '' is not a host"),
        ("m --host a..b", "argument --host: 'a..b' is not a host"),
        ("m --store=", "argument --store: this names no folder"),
        (
            "m --source-url ftp://x",
            "argument --source-url: 'ftp://x': 'ftp' is none of the schemes that are read: "
            "azure, gs, hf, http, https, mlflow, oci, s3",
        ),
        ("m --source-root=", "argument --source-root: this names no folder"),
        ("m --lora-path", "argument --lora-path: expected at least one argument"),
        ("m --lora-path=", "--lora-path: '' is not a folder"),
        ("m --lora-path a=", "--lora-path: '' is not a folder"),
        ("m --lora-path /none/a", "--lora-path: '/none/a' is not a folder"),
        (f"m --lora-path /{300 * 'a'}", f"--lora-path: '/{300 * 'a'}' is not a folder"),
        ("m --lora-path /", "--lora-path: '' is no adapter name: …: give it one, NAME=/"),
        ("m --lora-path A=/", "--lora-path: 'A' is no adapter name: …"),
        ("m --lora-path =/", "--lora-path: '' is no adapter name: …"),
        ("m --lora-path a@b=/", "--lora-path: 'a@b' is no adapter name: …"),
        ("m --lora-path a:3=/", "--lora-path: 'a:3' is no adapter name: …"),
        ("m --lora-path a=/ a=/tmp", "--lora-path: two folders for 'a'; register further …"),
        (
            "m --lora-path / --served-model-name A",
            "--served-model-name: 'A' is no adapter name: …",
        ),
        (
            "m --lora-path / --served-model-name a b",
            "--served-model-name: one name for the one adapter of --lora-path",
        ),
        (
            "m --lora-path / --served-model-name --seed 1",
            "argument --served-model-name: expected at least one argument",
        ),
        ("m --profile none", "profile …/configs/none.yaml: No such file or directory"),
        ("m --profile=", "profile …/configs/.yaml: No such file or directory"),
        ("m --profile /none.yml", "profile /none.yml: No such file or directory"),
        ("m --database x", "argument --database: this URL does not work here (…sqlite:///FILE…"),
        ("m --database mysql://x", "argument --database: this URL does not work here (…"),
        ("m --database postgresql://h:x/d", "argument --database: this URL does not work here (…"),
        ("m --database sqlite+pysqlite://", "argument --database: this URL does not work here (…"),
    ],
)
def test_an_error_says_what_is_wrong(arguments: str, message: str) -> None:
    assert_matches(complaint(*arguments.split()), message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", " must hold `adaptry:` and `vllm:` only"),
        (b"[1]", " must hold `adaptry:` and `vllm:` only"),
        (b"vllm: {}\nother: 1", " must hold `adaptry:` and `vllm:` only"),
        (b"vllm: 5", ": `vllm:` must hold lines like `option: value`"),
        (b"adaptry: [1]", ": `adaptry:` must hold lines like `option: value`"),
        (b"vllm: {1: 2}", ": `vllm:` must hold lines like `option: value`"),
        (b"vllm: {port: 9}", ": port can be given on the command line only"),
        (b"vllm: {model: x}", ": model can be given on the command line only"),
        (b"vllm: {\n", " is not YAML: …"),
        (b"\xff", " is not YAML: …"),
        (b"vllm: {x: 2024-13-13}", " is not YAML: …"),
    ],
)
def test_an_error_in_a_profile_names_the_file(
    content: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dates = "tag:yaml.org,2002:timestamp"  # which lm-format-enforcer has a process read as text
    of_text = yaml.SafeLoader.yaml_constructors["tag:yaml.org,2002:str"]
    monkeypatch.setitem(yaml.SafeLoader.yaml_constructors, dates, of_text)
    path = tmp_path / "profile.yaml"
    path.write_bytes(content)
    assert_matches(complaint("m", "--profile", str(path)), f"profile {path}{message}")


def test_a_usage_error_is_one_line_on_stderr(
    profile: WriteProfile, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["m", "--profile", profile("vllm: {\n")]) == 2
    captured = capsys.readouterr()
    assert not captured.out
    assert captured.err.startswith("adaptry: profile ")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    "url", ["postgresql://me:secret@h:x/d", "mysql://me:secret@h/d", "me:secret@h"]
)
def test_a_password_is_not_printed(url: str) -> None:
    assert "secret" not in complaint("m", "--database", url)


@pytest.mark.parametrize(
    "url", ["sqlite:///a.db", "sqlite+aiosqlite:////tmp/a.db", "postgresql://me:secret@h/d"]
)
def test_database_urls_that_work_stay_as_given(url: str) -> None:
    assert parse(["m", "--database", url]).database == url


def complaint(*arguments: str) -> str:
    with pytest.raises(UsageError) as refused:
        parse(arguments)
    return str(refused.value)


def assert_matches(text: str, expected: str) -> None:
    """They may differ only where `expected` has a `…`."""
    pattern = ".*".join(map(re.escape, expected.split("…")))
    assert re.fullmatch(pattern, text, re.DOTALL), text


def test_a_first_token_waits_for_no_acknowledgement() -> None:
    """Nagle's algorithm is turned off on a connection only if the protocol is named."""
    with _listen("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP


def test_several_engines_are_our_own_or_stock_servers() -> None:
    assert (parse(["m"]).replicas, parse(["m"]).engines) == (None, ())
    assert parse(["m", "--replicas", "3"]).replicas == 3
    urls = ["http://a:1", "https://b:2/", "http://a:1"]
    assert parse(["m", "--engines", *urls]).engines == ("http://a:1", "https://b:2")
    for other in ("https://a:1", "http://user:secret@a:1"):
        with pytest.raises(UsageError, match="the same host and port"):
            parse(["m", "--engines", "http://a:1", other])
    assert server_name("http://user:secret@a:1") == "a:1"
    with pytest.raises(UsageError, match="--engines or --replicas"):
        parse(["m", "--engines", "http://a:1", "--replicas", "2"])


@pytest.mark.parametrize("number", ["0", "-1", "x", "1.5", "10001"])
def test_an_invalid_number_of_replicas_is_refused(number: str) -> None:
    with pytest.raises(UsageError, match="replicas"):
        parse(["m", f"--replicas={number}"])


@pytest.mark.parametrize("url", ["a:1", "ftp://a", "http://", "http://a/v1"])
def test_an_invalid_server_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="is no server"):
        parse(["m", "--engines", url])


def test_the_files_that_a_folders_links_lead_to_may_be_read(tmp_path: Path) -> None:
    """A snapshot in the Hub's cache is a folder of links to blobs elsewhere."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors", "chat_template.jinja"):
        (blobs / name[:9]).write_text(name)
        (snapshot / name).symlink_to(f"../../blobs/{name[:9]}")
    (snapshot / "README.md").symlink_to("/etc/hostname")
    asked = parse(["model", "--lora-path", f"a={snapshot}"])
    assert [path.name for path in linked_files(asked.adapters)] == [
        *("adapter_c", "adapter_m", "chat_temp")
    ]
    roots = _registry_settings(asked).source_roots
    assert snapshot in roots
    assert blobs / "adapter_c" in roots
    assert Path("/etc/hostname") not in roots


def test_some_engines_may_have_arguments_of_their_own() -> None:
    given = ["m", "--replicas", "3", "--replica-class", "2 --max-lora-rank 8 --max_loras=64"]
    arguments = parse([*given, "--max-lora-rank", "64"])
    assert arguments.replica_classes == ((2, ("--max-lora-rank", "8", "--max-loras=64")),)
    options = FleetOptions(
        model="m",
        replicas=3,
        vllm=arguments.vllm,
        classes=tuple(ReplicaClass(replicas=n, vllm=v) for n, v in arguments.replica_classes),
    )
    small = ("--max-lora-rank", "64", "--max-lora-rank", "8", "--max-loras=64")
    assert [options.arguments_of(place) for place in range(4)] == [
        small,
        small,
        arguments.vllm,
        arguments.vllm,
    ]
    assert options.arguments_in_use() == [small, arguments.vllm]
    assert fleet_rank(options) == 64
    assert fleet_rank(options.model_copy(update={"replicas": 2})) == 8


def test_no_class_of_stock_servers_has_a_key_of_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be taken for a lock, and lock nothing."""

    parsed = modes._parse
    monkeypatch.setattr("fleet.ray.launch.prepare_environment", lambda database: None)
    monkeypatch.setattr(modes, "_parse_for_vllm", lambda given, engines: parsed(given, given.vllm))
    given = ["m", "--engines", "http://a:1", "http://b:1"]
    arguments = parse([*given, "--replica-class", "1 --api-key a-key-of-clients"])
    with pytest.raises(UsageError, match="--api-key"):
        modes.serve_stock_engines(arguments, RegistrySettings())


def test_the_arguments_of_all_engines_are_parsed_once_beside_those_of_a_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A parse warns of what is not heeded."""
    parses: list[tuple[str, ...]] = []
    parse_as_vllm = modes._parse

    def parsed(arguments: ServeArguments, given: Sequence[str]) -> Namespace:
        parses.append(tuple(given))
        found: Namespace = parse_as_vllm(arguments, given)
        return found

    monkeypatch.setattr("fleet.ray.launch.prepare_environment", lambda database: None)
    monkeypatch.setattr("fleet.ray.launch.serve_fleet", lambda *given: None)
    monkeypatch.setattr(modes, "_parse", parsed)
    monkeypatch.setattr(modes, "_parse_for_vllm", lambda given, engines: parsed(given, given.vllm))
    arguments = parse(["m", "--replicas", "2", "--replica-class", "1 --max-loras 9"])
    modes.serve_replicas(arguments, RegistrySettings(), 2)
    assert sorted(parses) == sorted([arguments.vllm, (*arguments.vllm, "--max-loras", "9")])


def test_where_only_the_deployment_has_the_number_of_replicas_the_rest_counts_too() -> None:
    """As in configs/ray-serve.yaml, whose `num_replicas` may be changed while the fleet runs."""
    small = {"replicas": 3, "vllm": ["--max-lora-rank", "8"]}
    given = {"model": "m", "vllm": ["--max-lora-rank", "64"], "classes": [small]}
    assert fleet_rank(FleetOptions.model_validate(given)) == 64
    assert fleet_rank(FleetOptions.model_validate(given | {"replicas": 3})) == 8


def test_a_configuration_whose_classes_have_more_replicas_than_there_are_is_refused() -> None:
    """The last of them would never start, and a rank that only they serve would never be."""
    small = {"replicas": 3, "vllm": ["--max-lora-rank", "8"]}
    with pytest.raises(ValidationError, match="the classes have 3 replicas, more than the 2"):
        FleetOptions.model_validate({"model": "m", "replicas": 2, "classes": [small]})


def test_a_replica_gets_the_gpus_that_the_largest_class_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ray reserves as many for each, and numbers the replicas only later."""
    monkeypatch.setattr("engine.vllm.compat.is_cpu_build", lambda: False)
    large = ReplicaClass(replicas=1, vllm=("--tensor-parallel-size", "2"))
    options = FleetOptions(model="m", replicas=2, classes=(large,))
    assert gpus_of(options) == 2
    assert gpus_of(options.model_copy(update={"classes": ()})) == 1


def test_the_options_of_a_class_may_have_underscores_as_all_others() -> None:
    given = ["--replica-class", "1 --max_lora_rank 8 --max_loras=64"]
    arguments = parse(["m", "--replicas", "2", *given])
    assert arguments.replica_classes == ((1, ("--max-lora-rank", "8", "--max-loras=64")),)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--replica-class", "1 --max-loras 8"], "needs --replicas or --engines"),
        (["--replicas", "2", "--replica-class", "--max-loras 8"], "not a number and arguments"),
        (["--replicas", "2", "--replica-class", "two --max-loras 8"], "no number of replicas"),
        (["--replicas", "2", "--replica-class", ""], "not a number and arguments"),
        (["--replicas", "2", "--replica-class", "1 --max-loras '8"], "can't be read"),
        (["--replicas", "2", "--replica-class", "1 --max-lora-rang 8"], "--max-lora-rank"),
    ],
)
def test_a_wrong_class_is_refused(options: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse(["m", *options])


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "", "server.example"])
def test_beyond_loopback_it_must_be_decided_whether_keys_are_needed(host: str) -> None:
    with pytest.raises(UsageError, match="--require-keys"):
        _check_exposure(host, RegistrySettings())
    for decided in (True, False):
        _check_exposure(host, RegistrySettings(require_keys=decided))
    for own in ("127.0.0.1", "::1", "localhost"):
        _check_exposure(own, RegistrySettings())
