"""MLflow client: reads the model registry and its artifacts over MLflow's REST API.

Endpoints and fields after MLflow's REST API reference (mlflow.org; the same in 2.x and 3.x).
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, unquote, urlsplit

import httpx

from registry.inspection.peft_config import CONFIG_FILE
from registry.inspection.safetensors_header import WEIGHTS_FILE

Fields = dict[str, Any]

_API = "/api/2.0/mlflow"
_ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
_MAX_HOPS = 5
_CHUNK_BYTES = 2**20


class Unreachable(Exception):
    """The reason why artifacts can't be read from here."""


class MlflowError(Exception):
    """What MLflow answered, or that it did not. `status`: its answer's, if there was one."""

    def __init__(self, detail: str, status: int | None = None) -> None:
        super().__init__(detail)
        self.status = status


class MlflowClient:
    """Reads one MLflow server, with the credentials that MLflow's own client would use."""

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None) -> None:
        """`transport`: instead of one that uses the environment's proxies."""
        self.url = _without_password(url.rstrip("/"))
        self._http = httpx.Client(
            base_url=url.rstrip("/"),
            timeout=httpx.Timeout(120.0, connect=5.0),
            auth=_basic_auth(),
            headers=_bearer(),
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
            named = self._get("registered-models/get", {"name": found["name"]})
            yield named["registered_model"]

    def model(self, name: str) -> Fields:
        model: Fields = self._get("registered-models/get", {"name": name})["registered_model"]
        return model

    def versions(self, name: str) -> list[Fields]:
        """The oldest first."""
        quoted = name.replace("\\", "\\\\").replace("'", "\\'")
        query = {"filter": f"name='{quoted}'"}
        found = self._pages("model-versions/search", "model_versions", query)
        return sorted(found, key=lambda version: int(version["version"]))

    def version(self, name: str, number: str) -> Fields:
        query = {"name": name, "version": number}
        version: Fields = self._get("model-versions/get", query)["model_version"]
        return version

    def version_of_alias(self, name: str, alias: str) -> Fields:
        query = {"name": name, "alias": alias}
        version: Fields = self._get("registered-models/alias", query)["model_version"]
        return version

    def location(self, version: Fields) -> str:
        """Where the files of a version are: `mlflow-artifacts:…`, or a path. Raises Unreachable."""
        query = {"name": version["name"], "version": version["version"]}
        uri = str(self._get("model-versions/get-download-uri", query)["artifact_uri"])
        for _ in range(_MAX_HOPS):
            parts = urlsplit(uri)
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
        raise Unreachable(f"its source {uri!r} leads nowhere")

    def files(self, location: str) -> Iterator[tuple[str, int]]:
        """Relative path and size of each proxied file, at any depth."""
        folders = [""]
        while folders:
            folder = folders.pop()
            path = "/".join(filter(None, (_proxied_path(location), folder)))
            listed = self._json(_ARTIFACTS, {"path": path}).get("files", [])
            for entry in listed:
                below = "/".join(filter(None, (folder, str(entry["path"]))))
                if entry.get("is_dir"):
                    folders.append(below)
                else:
                    yield below, int(entry.get("file_size") or 0)

    def download(self, location: str, path: str) -> Iterator[bytes]:
        """One proxied file. Raises MlflowError."""
        url = f"{_ARTIFACTS}/{quote(f'{_proxied_path(location)}/{path}')}"
        try:
            with self._http.stream("GET", url) as response:
                self._check(response)
                yield from response.iter_bytes(_CHUNK_BYTES)
        except httpx.HTTPError as error:
            raise MlflowError(f"no answer from {self.url}: {error}") from error

    def _run_artifacts(self, run_id: str) -> str:
        return str(self._get("runs/get", {"run_id": run_id})["run"]["info"]["artifact_uri"])

    def _model_artifacts(self, rest: str) -> str:
        """Of `m-…`, a logged model, or of `name/3`, a version of another registered model."""
        name, _, version = rest.rpartition("/")
        if name:
            query = {"name": unquote(name), "version": version}
            return str(self._get("model-versions/get-download-uri", query)["artifact_uri"])
        return str(self._get(f"logged-models/{rest}", {})["model"]["info"]["artifact_uri"])

    def _pages(self, path: str, key: str, query: Mapping[str, str]) -> Iterator[Fields]:
        token = ""
        while True:
            page = self._get(path, {**query, "max_results": "100", "page_token": token})
            yield from page.get(key, [])
            token = str(page.get("next_page_token") or "")
            if not token:
                return

    def _get(self, path: str, query: Mapping[str, str]) -> Fields:
        return self._json(f"{_API}/{path}", query)

    def _json(self, path: str, query: Mapping[str, str]) -> Fields:
        """Raises MlflowError."""
        params = {key: value for key, value in query.items() if value}
        try:
            response = self._http.get(path, params=params)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise MlflowError(f"no answer from {self.url}: {error}") from error
        self._check(response)
        try:
            content = response.json()
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise MlflowError(f"{self.url} does not speak MLflow's API")
        return content

    def _check(self, response: httpx.Response) -> None:
        if response.is_success:
            return
        response.read()
        try:
            message = str(response.json()["message"])
        except (ValueError, KeyError, TypeError):
            message = response.reason_phrase
        status = response.status_code
        raise MlflowError(f"MLflow at {self.url}: {message} (HTTP {status})", status)


def _proxied_path(location: str) -> str:
    return location.removeprefix("mlflow-artifacts:").strip("/")


def _without_password(url: str) -> str:
    """To be shown: what stands before the host is for httpx alone."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _basic_auth() -> httpx.BasicAuth | None:
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    password = os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
    return httpx.BasicAuth(user, password) if user else None


def _bearer() -> dict[str, str]:
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    return {"authorization": f"Bearer {token}"} if token else {}


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
