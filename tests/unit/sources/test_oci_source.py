"""Artifacts of OCI registries: ORAS and ModelPack, pushed to a real registry."""

import io
import json
import logging
import os
import sys
import tarfile
from base64 import b64encode
from collections.abc import Iterator, Mapping
from hashlib import sha256
from ipaddress import ip_network
from pathlib import Path

import oras.client
import pytest

from registry.errors import (
    AddressNotAllowed,
    InvalidAdapter,
    InvalidSource,
    SourceDenied,
    SourceNotAllowed,
    SourceNotFound,
    SourceTooLarge,
    SourceUnavailable,
    SourceUnsupported,
)
from registry.sources.base import FetchLimits
from registry.sources.egress_guard import EgressGuard
from registry.sources.registries import credential_helper
from registry.sources.registry import RemoteSources
from tests.support.adapters.fetch import LOOPBACK, Fetch
from tests.support.registries.oci_registry import OciRegistry, PushedLayer, oci_registry

CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
ADAPTER = {CONFIG: b"{}", WEIGHTS: os.urandom(5_000_000)}
TITLE, FILEPATH = "org.opencontainers.image.title", "org.cncf.model.filepath"
MODEL = "application/vnd.cncf.model"
DIGEST = f"sha256:{'0' * 64}"


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OciRegistry]:
    with oci_registry(tmp_path_factory.mktemp("oci")) as running:
        yield running


@pytest.fixture
def fetch(tmp_path: Path) -> Fetch:
    return Fetch(tmp_path, 100_000_000, lambda guard: RemoteSources(("oci://",), guard))


def layer(path: str, content: bytes, kind: str, key: str = FILEPATH) -> PushedLayer:
    return PushedLayer(content, f"{MODEL}.{kind}", {key: path})


def tar_of(files: Mapping[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]  # a str
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


async def test_files_that_oras_pushed_are_fetched(
    pushed: OciRegistry, fetch: Fetch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in {**ADAPTER, "README.md": b"read"}.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    client = oras.client.OrasClient(hostname=pushed.place, insecure=True)
    client.push(f"{pushed.place}/team/support:v1", files=[*ADAPTER, "README.md"])
    fetched, files = await fetch(f"oci://{pushed.place}/team/support:v1")
    assert files == ADAPTER
    total = sum(map(len, ADAPTER.values()))
    assert (fetch.progress.bytes_done, fetch.progress.bytes_total) == (total, total)
    assert fetched.revision is not None
    assert fetched.revision.startswith("sha256:")
    again, files = await fetch(f"oci://{pushed.place}/team/support@{fetched.revision}")
    assert (again.revision, files) == (fetched.revision, ADAPTER)


async def test_the_files_of_a_model_pack_are_fetched(pushed: OciRegistry, fetch: Fetch) -> None:
    layers = [
        layer("README.md", b"read", "doc.v1.raw"),
        layer(f"lora/{WEIGHTS}", ADAPTER[WEIGHTS], "weight.v1.raw"),
        layer(f"lora/{CONFIG}", ADAPTER[CONFIG], "weight.config.v1.raw"),
    ]
    pushed.push("team/pack:raw", layers, artifactType=f"{MODEL}.manifest.v1+json")
    _, files = await fetch(f"oci://{pushed.place}/team/pack:raw")
    assert files == ADAPTER


@pytest.mark.parametrize("mode", ["w", "w:gz"])
async def test_the_tars_of_a_model_pack_are_unpacked(
    pushed: OciRegistry, fetch: Fetch, mode: str
) -> None:
    end = "tar" if mode == "w" else "tar+gzip"
    apart = [
        layer("weights", tar_of({WEIGHTS: ADAPTER[WEIGHTS]}, mode), f"weight.v1.{end}"),
        layer("config", tar_of({CONFIG: ADAPTER[CONFIG]}, mode), f"weight.config.v1.{end}"),
    ]
    whole = tar_of({f"lora/{name}": content for name, content in ADAPTER.items()}, mode)
    together = [layer("lora", whole, f"weight.v1.{end}")]
    for tag, layers in (("apart", apart), ("together", together)):
        pushed.push(f"team/pack:{tag}", layers)
        fetched, files = await fetch(f"oci://{pushed.place}/team/pack:{tag}")
        assert files == ADAPTER
        assert fetched.revision


async def test_several_tars_must_say_which_has_the_configuration(
    pushed: OciRegistry, fetch: Fetch
) -> None:
    """Whichever is smaller: to guess by that would unpack all weights before the configuration."""
    tars = {name: tar_of({name: content}) for name, content in ADAPTER.items()}
    for tag, kind in (("none", "weight.v1.tar"), ("both", "weight.config.v1.tar")):
        pushed.push(f"team/two:{tag}", [layer(f"part of {n}", t, kind) for n, t in tars.items()])
        with pytest.raises(InvalidSource, match=f"2 tars, .* which one has {CONFIG}") as refused:
            await fetch(f"oci://{pushed.place}/team/two:{tag}")
        assert refused.value.code == "invalid_source"
    named = [layer(f"{name}.tar", tar, "weight.v1.tar", TITLE) for name, tar in tars.items()]
    pushed.push("team/two:named", named)
    _, files = await fetch(f"oci://{pushed.place}/team/two:named")
    assert files == ADAPTER


async def test_documents_code_and_data_beside_an_adapter_are_not_fetched(
    pushed: OciRegistry, fetch: Fetch
) -> None:
    """They may be large, and have files with an adapter's names."""
    beside = tar_of({f"example/{CONFIG}": b"other", "rows.bin": os.urandom(20_000_000)})
    kinds = ("doc.v1.tar", "code.v1.tar", "dataset.v1.tar")
    layers = [layer(kind, beside, kind) for kind in kinds]
    pushed.push("team/pack:full", [*layers, layer("lora", tar_of(ADAPTER), "weight.v1.tar")])
    fetch.limits = FetchLimits(2 * sum(map(len, ADAPTER.values())))
    assert (await fetch(f"oci://{pushed.place}/team/pack:full"))[1] == ADAPTER
    pushed.push("team/pack:beside", layers)
    with pytest.raises(SourceNotFound, match="no adapter"):
        await fetch(f"oci://{pushed.place}/team/pack:beside")


async def test_what_is_not_what_its_digest_says_is_refused(
    pushed: OciRegistry, fetch: Fetch
) -> None:
    content = os.urandom(1000)
    pushed.push("team/bad:1", [layer(CONFIG, content, "weight.config.v1.raw", TITLE)])
    stored = pushed.stored(f"sha256:{sha256(content).hexdigest()}")
    stored.write_bytes(os.urandom(1000))
    with pytest.raises(SourceUnavailable, match="digest says"):
        await fetch(f"oci://{pushed.place}/team/bad:1")


TRAINING = {"tokenizer.json": b'{"model": {}}', "chat_template.jinja": b"{{ messages }}"}


@pytest.mark.parametrize("harm", ["gone", "changed", "large"])
async def test_a_training_file_that_cannot_be_had_is_left_out_with_a_remark(
    pushed: OciRegistry, fetch: Fetch, harm: str, tmp_path: Path
) -> None:
    tokenizer = (
        TRAINING["tokenizer.json"] + b" " * (5_000 if harm == "large" else 0) + harm.encode()
    )
    files = {**ADAPTER, **TRAINING, "tokenizer.json": tokenizer}
    layers = [layer(name, content, "weight.v1.raw") for name, content in files.items()]
    pushed.push(f"team/trained:{harm}", layers)
    stored = pushed.stored(f"sha256:{sha256(tokenizer).hexdigest()}")
    if harm == "gone":
        stored.unlink()
    elif harm == "changed":
        stored.write_bytes(b"x" * len(tokenizer))
    fetch.limits = FetchLimits(100_000_000, max_training_file_bytes=1_000)
    fetched, taken = await fetch(f"oci://{pushed.place}/team/trained:{harm}")
    assert taken == ADAPTER
    ((code, detail),) = fetched.remarks
    assert (code, detail.rpartition(": ")[2]) == ("training_unread", "tokenizer.json")
    (beside,) = tmp_path.rglob("chat_template.jinja")
    assert [file.name for file in beside.parent.iterdir()] == ["chat_template.jinja"]


async def test_new_embeddings_that_cannot_be_read_are_known_to_be_there(
    pushed: OciRegistry, fetch: Fetch, tmp_path: Path
) -> None:
    """They alone decide that the adapter can't be served."""
    files = {**ADAPTER, "new_embeddings.safetensors": b"embeddings"}
    pushed.push("team/new:1", [layer(n, c, "weight.v1.raw") for n, c in files.items()])
    pushed.stored(f"sha256:{sha256(b'embeddings').hexdigest()}").write_bytes(b"xxxxxxxxxx")
    await fetch(f"oci://{pushed.place}/team/new:1")
    assert [file.name for file in tmp_path.rglob("new_embeddings.safetensors")]


async def test_a_pickle_is_noted_but_not_fetched(pushed: OciRegistry, fetch: Fetch) -> None:
    files = {CONFIG: b"{}", PICKLE: b"pickle"}
    pushed.push("team/old:1", [layer(n, c, "weight.v1.raw") for n, c in files.items()])
    assert (await fetch(f"oci://{pushed.place}/team/old:1"))[1] == {CONFIG: b"{}", PICKLE: b""}


async def test_what_is_no_adapter_is_an_error(pushed: OciRegistry, fetch: Fetch) -> None:
    def raw(*names: str) -> list[PushedLayer]:
        return [layer(name, name.encode(), "weight.v1.raw") for name in names]

    pushed.push("team/none:1", raw("notes.txt"))
    pushed.push("team/two:1", raw(f"a/{CONFIG}", f"b/{CONFIG}"))
    pushed.push("team/twice:1", raw(CONFIG, CONFIG))
    pushed.push("team/out:1", raw(f"../{CONFIG}"))
    pushed.push("team/link:1", [layer("x", tar_of({"../x": b""}), "weight.v1.tar")])
    for name, error, words in (
        ("none:1", SourceNotFound, "no adapter"),
        ("two:1", InvalidSource, "2 adapters"),
        ("twice:1", InvalidSource, "twice"),
        ("out:1", InvalidAdapter, "leads out"),
        ("link:1", InvalidAdapter, "leads out"),
        ("none:2", SourceNotFound, "there is no"),
        (f"none@{DIGEST}", SourceNotFound, "there is no"),
        ("nobody:1", SourceNotFound, "there is no"),
    ):
        with pytest.raises(error) as caught:
            await fetch(f"oci://{pushed.place}/team/{name}")
        assert words in caught.value.detail


async def test_too_much_is_known_before_it_comes(pushed: OciRegistry, fetch: Fetch) -> None:
    pushed.push("team/big:1", [layer(n, c, "weight.v1.raw") for n, c in ADAPTER.items()])
    pushed.push("team/big:2", [layer("x", tar_of(ADAPTER, "w:gz"), "weight.v1.tar+gzip")])
    for limits in (FetchLimits(1_000_000), FetchLimits(100_000_000, max_files=1)):
        fetch.limits = limits
        with pytest.raises(SourceTooLarge):
            await fetch(f"oci://{pushed.place}/team/big:1")
        assert fetch.progress.bytes_done <= len(ADAPTER[CONFIG])
    with pytest.raises(SourceTooLarge):
        await fetch(f"oci://{pushed.place}/team/big:2")


async def test_only_allowed_addresses_are_called(
    pushed: OciRegistry, fetch: Fetch, tmp_path: Path
) -> None:
    """Also where the registry says that tokens are to be had."""
    with pytest.raises(AddressNotAllowed):
        await fetch(f"oci://{pushed.place}/team/support:v1", EgressGuard())
    (tmp_path / "locked").mkdir()
    realm = 'auth: {silly: {realm: "http://10.1.2.3/token", service: x}}'
    with oci_registry(tmp_path / "locked", realm) as locked, pytest.raises(AddressNotAllowed):
        await fetch(f"oci://{locked.place}/team/support:v1")


async def test_http_is_only_for_loopback_and_what_is_named(
    pushed: OciRegistry, fetch: Fetch, tmp_path: Path
) -> None:
    pushed.push("team/plain:1", [layer(n, c, "weight.v1.raw") for n, c in ADAPTER.items()])
    networks = (ip_network("127.0.0.1/32"),)
    guard = EgressGuard(allowed=networks, resolve=lambda host, port: ["127.0.0.1"])
    place = f"registry.example:{pushed.port}"
    with pytest.raises(SourceUnavailable):
        await fetch(f"oci://{place}/team/plain:1", guard)
    (tmp_path / "named").mkdir()
    named = Fetch(
        tmp_path / "named",
        100_000_000,
        lambda g: RemoteSources(("oci://",), g, plain_registries=(place,)),
    )
    assert (await named(f"oci://{place}/team/plain:1", guard))[1] == ADAPTER


@pytest.mark.parametrize(
    "url",
    [
        "oci://ghcr.io",
        "oci://ghcr.io/",
        "oci://ghcr.io/Team/a",
        "oci://ghcr.io/team/a:",
        "oci://ghcr.io/team/a@sha256:0",
        "oci://user@ghcr.io/team/a",
        "oci://ghcr.io/team/../a",
        "oci://ghcr.io/team/a?x=1",
        "oci://ghcr.io:99999/team/a:1",
        "oci://ghcr.io:0/team/a:1",
    ],
)
def test_what_names_no_artifact_is_invalid(url: str) -> None:
    with pytest.raises(InvalidSource):
        RemoteSources(("oci://",), EgressGuard()).open(url)


def test_a_rule_for_a_repository_counts_for_its_tags_and_digests() -> None:
    sources = RemoteSources(("oci://ghcr.io/team/a",), EgressGuard())
    for url in ("a", "a:v1", f"a@{DIGEST}", f"a:v1@{DIGEST}", "a/b:v1"):
        sources.open(f"oci://ghcr.io/team/{url}")
    for url in ("oci://ghcr.io/team/ab:v1", "oci://ghcr.io.example.com/team/a"):
        with pytest.raises(SourceNotAllowed):
            sources.open(url)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("oci", "oci_client"):
        monkeypatch.delitem(sys.modules, f"registry.sources.registries.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "oras.client", None)
    with pytest.raises(SourceUnsupported) as caught:
        RemoteSources(("oci://",), LOOPBACK).open("oci://ghcr.io/team/a")
    assert "adaptry[oci]" in caught.value.detail


async def test_a_login_of_docker_is_used_and_shown_nowhere(
    fetch: Fetch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "locked").mkdir()
    hashed = "$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"  # bcrypt of "secret"
    (tmp_path / "locked/users").write_text(f"ann:{hashed}\n")
    login = tmp_path / ".docker"
    login.mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    locks = f"auth: {{htpasswd: {{realm: Team, path: {tmp_path}/locked/users}}}}"
    with oci_registry(tmp_path / "locked", locks) as locked, caplog.at_level(logging.DEBUG):
        url = f"oci://{locked.place}/team/none:1"
        cases = ((None, SourceDenied), ("wrong", SourceDenied), ("secret", SourceNotFound))
        for password, error in cases:
            word = b64encode(f"ann:{password}".encode()).decode()
            auths = {locked.place: {"auth": word}} if password else {}
            (login / "config.json").write_text(json.dumps({"auths": auths}))
            with pytest.raises(error) as caught:
                await fetch(url)
            assert word not in f"{caught.value.detail}{caplog.text}"


HELPER = """#!/bin/sh
echo $$ > "{folder}/pid"
{body}
"""


@pytest.mark.parametrize(
    ("body", "why"),
    [("exec sleep 60", "no answer in"), ("echo {}", "answers with no login")],
    ids=["hangs", "nonsense"],
)
async def test_a_credential_helper_that_fails_holds_no_fetch(
    pushed: OciRegistry,
    fetch: Fetch,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    body: str,
    why: str,
) -> None:
    helper = tmp_path / "docker-credential-slow"
    helper.write_text(HELPER.format(folder=tmp_path, body=body))
    helper.chmod(0o755)
    login = tmp_path / ".docker"
    login.mkdir()
    (login / "config.json").write_text(json.dumps({"credsStore": "slow"}))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(credential_helper, "HELPER_SECONDS", 0.5)
    with pytest.raises(SourceUnavailable, match=why):
        await fetch(f"oci://{pushed.place}/team/none:1")
    process = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
