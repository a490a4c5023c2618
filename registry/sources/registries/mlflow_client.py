"""MLflow client: reads the model registry and its artifacts over MLflow's REST API.

Endpoints and fields after MLflow's REST API reference (mlflow.org; the same in 2.x and 3.x).
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import SplitResult, quote, unquote, urlsplit

import httpx

from registry.inspection.peft_config import CONFIG_FILE
from registry.inspection.safetensors_header import WEIGHTS_FILE
from registry.sources.registries.mlflow_access import (
    basic_auth,
    bearer,
    server_url,
    without_password,
)
from registry.sources.registries.mlflow_answers import (
    FOREIGN,
    Fields,
    MlflowError,
    list_of,
    number_of,
    printable,
    size_of,
    text_of,
)

_API = "/api/2.0/mlflow"
_ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
_MAX_HOPS = 5
_CHUNK_BYTES = 2**20
_MAX_ANSWER_BYTES = 32 * 2**20
_MAX_FOLDERS = 1000
_MAX_FILES = 100_000
_MAX_PAGES = 1000


class Unreachable(Exception):
    """The reason why artifacts can't be read from here."""


class MlflowClient:
    """Reads one MLflow server, with the credentials that MLflow's own client would use."""

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None) -> None:
        """`transport`: instead of one that uses the environment's proxies.

        Raises MlflowError if it is no URL of a server.
        """
        server = server_url(url)
        self.url = without_password(server)
        self._http = httpx.Client(
            base_url=server,
            timeout=httpx.Timeout(120.0, connect=5.0),
            auth=basic_auth(),
            headers=bearer(),
            transport=transport,
            trust_env=transport is None,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._http.close()

    def models(self) -> Iterator[Fields]:
        """All registered models, with their aliases and tags."""
        for found in self._pages("registered-models/search", "registered_models", {}):
            yield self.model(text_of(found, "name"))

    def model(self, name: str) -> Fields:
        found = self._get("registered-models/get", {"name": name}, "registered_model")
        text_of(found, "name")
        return found

    def versions(self, name: str) -> list[Fields]:
        """The oldest first."""
        quoted = name.replace("\\", "\\\\").replace("'", "\\'")
        query = {"filter": f"name='{quoted}'"}
        found = self._pages("model-versions/search", "model_versions", query)
        return sorted(found, key=number_of)

    def version(self, name: str, number: str) -> Fields:
        query = {"name": name, "version": number}
        return self._get("model-versions/get", query, "model_version")

    def version_of_alias(self, name: str, alias: str) -> Fields:
        query = {"name": name, "alias": alias}
        return self._get("registered-models/alias", query, "model_version")

    def location(self, version: Fields) -> str:
        """Where the files of a version are: `mlflow-artifacts:…`, or a path. Raises Unreachable."""
        query = {name: text_of(version, name) for name in ("name", "version")}
        uri = text_of(self._get("model-versions/get-download-uri", query), "artifact_uri")
        for _ in range(_MAX_HOPS):
            parts = _split(uri)
            if parts.scheme == "mlflow-artifacts":
                return f"mlflow-artifacts:{parts.path}"
            if parts.scheme in ("", "file"):
                return unquote(parts.path)
            if parts.scheme == "runs":
                run, _, path = uri.removeprefix("runs:/").partition("/")
                uri = f"{self._run_artifacts(run)}/{path}"
            elif parts.scheme == "models":
                uri = self._model_artifacts(uri.removeprefix("models:/"))
            else:
                raise Unreachable(
                    f"its files are at {parts.scheme}://, not with MLflow (--serve-artifacts)"
                )
        raise Unreachable(f"its source {printable(uri)!r} leads nowhere")

    def files(self, location: str) -> Iterator[tuple[str, int]]:
        """Relative path and size of each proxied file, at any depth. Raises Unreachable."""
        folders, asked, files = [""], 0, 0
        while folders:
            folder, asked = folders.pop(), asked + 1
            if asked + len(folders) > _MAX_FOLDERS:
                raise Unreachable(f"has its files in more than {_MAX_FOLDERS} folders")
            path = "/".join(filter(None, (_proxied_path(location), folder)))
            for entry in list_of(self._json(_ARTIFACTS, {"path": path}), "files"):
                below = "/".join(filter(None, (folder, text_of(entry, "path"))))
                if entry.get("is_dir"):
                    folders.append(below)
                elif (files := files + 1) > _MAX_FILES:
                    raise Unreachable(f"holds more than {_MAX_FILES} files")
                else:
                    yield below, size_of(entry)

    def download(self, location: str, path: str) -> Iterator[bytes]:
        """One proxied file. Raises MlflowError."""
        url = f"{_ARTIFACTS}/{quote(f'{_proxied_path(location)}/{path}')}"
        try:
            with self._http.stream("GET", url) as response:
                self._check(response)
                yield from response.iter_bytes(_CHUNK_BYTES)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise MlflowError(f"no answer from {self.url}: {error}") from error

    def _run_artifacts(self, run_id: str) -> str:
        return text_of(self._get("runs/get", {"run_id": run_id}), "run", "info", "artifact_uri")

    def _model_artifacts(self, rest: str) -> str:
        """Of `m-…`, a logged model, or of `name/3`, a version of another registered model."""
        name, _, version = rest.rpartition("/")
        if name:
            query = {"name": unquote(name), "version": version}
            found = self._get("model-versions/get-download-uri", query)
            return text_of(found, "artifact_uri")
        found = self._get(f"logged-models/{quote(rest, safe='')}", {})
        return text_of(found, "model", "info", "artifact_uri")

    def _pages(self, path: str, key: str, query: Mapping[str, str]) -> Iterator[Fields]:
        token, asked = "", set[str]()
        while token not in asked:
            if len(asked) == _MAX_PAGES:
                raise MlflowError(f"{self.url} answers with more than {_MAX_PAGES} pages")
            asked.add(token)
            page = self._get(path, {**query, "max_results": "100", "page_token": token})
            yield from list_of(page, key)
            token = str(page.get("next_page_token") or "")
            if not token:
                return
        raise MlflowError(f"{self.url} {FOREIGN}: a page names an earlier one as its next")

    def _get(self, path: str, query: Mapping[str, str], field: str | None = None) -> Fields:
        """The answer, or the object in this field of it."""
        answer = self._json(f"{_API}/{path}", query)
        found = answer if field is None else answer.get(field)
        if not isinstance(found, dict):
            raise MlflowError(f"{self.url} {FOREIGN}")
        return found

    def _json(self, path: str, query: Mapping[str, str]) -> Fields:
        """Raises MlflowError."""
        params = {key: value for key, value in query.items() if value}
        try:
            with self._http.stream("GET", path, params=params) as response:
                self._check(response)
                content = self._parse(response)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise MlflowError(f"no answer from {self.url}: {error}") from error
        if not isinstance(content, dict):
            raise MlflowError(f"{self.url} {FOREIGN}")
        return content

    def _parse(self, response: httpx.Response) -> Any:
        """None if it is no JSON. Raises MlflowError, HTTPError."""
        content = bytearray()
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > _MAX_ANSWER_BYTES:
                raise MlflowError(f"{self.url} answers with more than {_MAX_ANSWER_BYTES} bytes")
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            return None

    def _check(self, response: httpx.Response) -> None:
        if response.is_success:
            return
        try:
            message = printable(str(self._parse(response)["message"]))
        except (KeyError, TypeError):
            message = response.reason_phrase
        status = response.status_code
        raise MlflowError(f"MLflow at {self.url}: {message} (HTTP {status})", status)


def _split(uri: str) -> SplitResult:
    try:
        return urlsplit(uri)
    except ValueError:
        raise Unreachable(f"its source {printable(uri)!r} is no URL") from None


def _proxied_path(location: str) -> str:
    return location.removeprefix("mlflow-artifacts:").strip("/")


def adapter_folder(paths: Iterable[str]) -> str:
    """The folder that holds both files, such as `peft` or `artifacts/adapter`; "" is the top.

    Raises Unreachable.
    """
    files: dict[str, set[str]] = {}
    for path in paths:
        folder, _, name = path.rpartition("/")
        files.setdefault(folder, set()).add(name)
    found = [folder for folder, names in files.items() if {CONFIG_FILE, WEIGHTS_FILE} <= names]
    if not found:
        raise Unreachable("holds no adapter that PEFT saved as safetensors")
    if len(found) > 1:
        raise Unreachable(f"holds {len(found)} adapters")
    return found[0]
