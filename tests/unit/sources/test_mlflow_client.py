"""What MLflow's client makes of a server that answers with something else."""

import gzip
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from adaptry.importers.mlflow import from_mlflow
from adaptry.terminal.errors import CommandError
from registry.errors import SourceUnsupported
from registry.sources.egress_guard import EgressGuard
from registry.sources.registries import mlflow_client
from registry.sources.registries.mlflow_answers import MlflowError
from registry.sources.registries.mlflow_client import MlflowClient, Unreachable
from registry.sources.registry import RemoteSources
from tests.support.servers.scripted_http import Answers, answering

ADAPTER = Path(__file__).resolve().parents[3] / "demo" / "adapters" / "upper"


@pytest.fixture
def server() -> Iterator[Answers]:
    with answering() as answers:
        yield answers


def test_a_password_in_its_url_is_used_and_shown_nowhere(server: Answers) -> None:
    url = server.url.replace("//", "//ann:secret@")
    server.will_say(500, {"message": "no"})
    with MlflowClient(url) as client:
        with pytest.raises(MlflowError) as caught:
            client.version("a", "1")
        assert client.url == server.url
    nowhere = MlflowClient("http://ann:secret@127.0.0.1:1")
    with nowhere as client, pytest.raises(MlflowError) as unreached:
        client.version("a", "1")
    assert "secret" not in f"{caught.value} {unreached.value}"
    assert server.keys == [f"Basic {b64encode(b'ann:secret').decode()}"]


MODEL = {"name": "a", "creation_timestamp": 1_700_000_000_000}
VERSION = MODEL | {"version": "1", "status": "READY"}


@pytest.mark.parametrize(
    ("model", "version"),
    [
        ({"aliases": [{"alias": "prod"}]}, {}),
        ({"aliases": [{"version": "1"}]}, {}),
        ({"aliases": [{"alias": "prod", "version": "first"}]}, {}),
        ({"aliases": "prod"}, {}),
        ({"tags": [{"value": "team"}]}, {}),
        ({"tags": ["team"]}, {}),
        ({"creation_timestamp": None}, {}),
        ({"creation_timestamp": 10**30}, {}),
        ({}, {"creation_timestamp": "yesterday"}),
        ({}, {"tags": {"key": "value"}}),
    ],
)
def test_an_import_of_what_lacks_fields_is_an_error_that_says_so(
    server: Answers, tmp_path: Path, model: dict[str, object], version: dict[str, object]
) -> None:
    server.will_say(200, {"registered_model": MODEL | model})
    server.will_say(200, {"model_versions": [VERSION | version]})
    server.will_say(200, {"artifact_uri": str(ADAPTER)})
    with pytest.raises(CommandError, match="does not speak MLflow's API"):
        from_mlflow(server.url, tmp_path, models=["a"])


def test_an_import_needs_neither_aliases_nor_tags(server: Answers, tmp_path: Path) -> None:
    server.will_say(200, {"registered_model": MODEL | {"aliases": None, "tags": None}})
    server.will_say(200, {"model_versions": [VERSION]})
    server.will_say(200, {"artifact_uri": str(ADAPTER)})
    (found,), skipped = from_mlflow(server.url, tmp_path, models=["a"])
    assert (found.name, [each.number for each in found.versions], skipped) == ("a", [1], {})


@pytest.mark.parametrize("answer", [b"[" * 200_000, b"[]", b"{}", b'{"model_version": 3}', b"\xff"])
def test_an_answer_that_is_none_is_an_error(server: Answers, answer: bytes) -> None:
    server.will_say(200, answer)
    with MlflowClient(server.url) as client, pytest.raises(MlflowError):
        client.version("a", "1")


def test_no_more_is_taken_than_an_answer_may_have(server: Answers) -> None:
    bomb = gzip.compress(bytes(80_000_000), 1)
    with MlflowClient(server.url) as client:
        for status in (200, 500):
            server.will_say(status, bomb, content_encoding="gzip")
            with pytest.raises(MlflowError, match="more than"):
                client.version("a", "1")


def test_folders_without_end_are_not_walked(
    server: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_client, "_MAX_FOLDERS", 3)
    for _ in range(4):
        server.will_say(200, {"files": [{"path": "deeper", "is_dir": True}]})
    with MlflowClient(server.url) as client, pytest.raises(Unreachable, match="more than 3"):
        list(client.files("mlflow-artifacts:/1/a"))
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"artifact_uri": None},
        {"artifact_uri": ""},
    ],
)
def test_an_answer_without_a_field_is_an_error(server: Answers, answer: dict[str, object]) -> None:
    server.will_say(200, answer)
    version = {"name": "a", "version": "1"}
    with MlflowClient(server.url) as client:
        with pytest.raises(MlflowError, match="no artifact_uri"):
            client.location(version)
        with pytest.raises(MlflowError, match="no name"):
            client.location({"version": "1"})
        server.will_say(200, {"artifact_uri": "runs:/1/a"})
        server.will_say(200, {"run": {"info": []}})
        with pytest.raises(MlflowError, match=r"run\.info\.artifact_uri"):
            client.location(version)


@pytest.mark.parametrize(
    "files",
    [[{}], [3], {"a": 1}, [{"path": "a", "file_size": "many"}], [{"path": "a", "file_size": [1]}]],
)
def test_files_that_are_none_are_an_error(server: Answers, files: object) -> None:
    server.will_say(200, {"files": files})
    with MlflowClient(server.url) as client, pytest.raises(MlflowError, match="MLflow's API"):
        list(client.files("mlflow-artifacts:/1/a"))


@pytest.mark.parametrize("versions", [[{}], [{"version": "x"}, {"version": "1"}], "abc"])
def test_versions_that_are_none_are_an_error(server: Answers, versions: object) -> None:
    server.will_say(200, {"model_versions": versions})
    with MlflowClient(server.url) as client, pytest.raises(MlflowError, match="MLflow's API"):
        client.versions("a")


@pytest.mark.parametrize("tokens", [["a", "a"], ["a", "b", "a"]])
def test_pages_that_lead_back_end(server: Answers, tokens: list[str]) -> None:
    for token in tokens:
        server.will_say(200, {"model_versions": [VERSION], "next_page_token": token})
    with MlflowClient(server.url) as client, pytest.raises(MlflowError, match="an earlier one"):
        client.versions("a")
    assert len(server.asked) == len(tokens)


def test_pages_without_end_are_not_read(server: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_client, "_MAX_PAGES", 3)
    for number in range(4):
        server.will_say(200, {"model_versions": [], "next_page_token": str(number)})
    with MlflowClient(server.url) as client, pytest.raises(MlflowError, match="more than 3 pages"):
        client.versions("a")
    assert len(server.asked) == 3


def test_a_folder_of_too_many_folders_or_files_is_not_walked(
    server: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_client, "_MAX_FOLDERS", 3)
    monkeypatch.setattr(mlflow_client, "_MAX_FILES", 3)
    with MlflowClient(server.url) as client:
        for is_dir, what in ((True, "more than 3 folders"), (False, "more than 3 files")):
            entries = [{"path": f"a{n}", "is_dir": is_dir} for n in range(4)]
            server.will_say(200, {"files": entries})
            with pytest.raises(Unreachable, match=what):
                list(client.files("mlflow-artifacts:/1/a"))
    assert len(server.asked) == 2


@pytest.mark.parametrize("uri", ["http://[odd", "s3://a]b/c", "//\u2100.example/a"])
def test_a_source_that_is_no_url_is_told_as_that(server: Answers, uri: str) -> None:
    server.will_say(200, {"artifact_uri": uri})
    with MlflowClient(server.url) as client, pytest.raises(Unreachable, match="is no URL"):
        client.location({"name": "a", "version": "1"})


@pytest.mark.parametrize("text", [b"a\\u0000b", b"a\\ud800b"])
def test_what_no_database_can_store_is_no_answer(server: Answers, text: bytes) -> None:
    server.will_say(200, b'{"artifact_uri": "' + text + b'"}')
    server.will_say(404, b'{"message": "' + text + b'"}')
    with MlflowClient(server.url) as client:
        with pytest.raises(MlflowError, match="artifact_uri holds what is no text"):
            client.location({"name": "a", "version": "1"})
        with pytest.raises(MlflowError, match="a b"):
            client.version("a", "1")


@pytest.mark.parametrize(
    "url", ["http://[", "http://ann:secret@[::1", "http://host:port", "ftp://host", "http://", "a"]
)
def test_what_is_no_url_of_a_server_is_an_error(url: str, tmp_path: Path) -> None:
    with pytest.raises(MlflowError) as client:
        MlflowClient(url)
    with pytest.raises(CommandError) as command:
        from_mlflow(url, tmp_path)
    with pytest.raises(SourceUnsupported) as source:
        RemoteSources(["mlflow:/"], EgressGuard(), mlflow_uri=url).open("mlflow:/a/1")
    assert "secret" not in f"{client.value} {command.value} {source.value}"
