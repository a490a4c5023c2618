"""The part of the Hugging Face Hub's HTTP API that fetching an adapter needs.

As the Hub has it: `/api/models/REPO[/revision/REVISION]` tells the commit,
`/REPO/resolve/COMMIT/FILE` gives small files itself and sends to a CDN for large ones, errors are
named in `X-Error-Code`, and what one may not see does not exist.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha1
from urllib.parse import unquote, urlsplit

from tests.support.servers.web import Handler, WebServer, serving

COMMIT_1, COMMIT_2 = "1" * 40, "2" * 40


@dataclass(slots=True)
class Repository:
    """`refs` are branches, tags and pull requests; `commits` hold files by their path."""

    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    token: str | None = None
    is_gated: bool = False

    def commit_of(self, revision: str) -> str | None:
        return revision if revision in self.commits else self.refs.get(revision)


class HubServer(WebServer):
    """Large files are at `cdn`, or here if there is none."""

    def __init__(self) -> None:
        super().__init__()
        self.RequestHandlerClass = HubHandler
        self.repositories: dict[str, Repository] = {}
        self.cdn: str | None = None
        self.down = 0  # so many requests are answered with 503

    def downloads(self) -> list[str]:
        return [path for method, path in self.asked if method == "GET" and "/resolve/" in path]


class HubHandler(Handler):
    server: HubServer

    def answer(self) -> None:
        self.server.asked.append((self.command, self.path))
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        if self.server.down > 0:
            self.server.down -= 1
            self.send(503, b"down", {})
            return
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        if parts[:2] == ["api", "models"]:
            revision = "/".join(parts[5:]) if parts[4:5] == ["revision"] else "main"
            self._tell("/".join(parts[2:4]), revision)
        elif parts[2:3] == ["resolve"]:
            self._give("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self.send(404, b"", {})

    do_GET = do_HEAD = do_POST = answer  # noqa: N815  # http.server's names

    def _tell(self, name: str, revision: str) -> None:
        repository = self._seen(name)
        if repository is None:
            return
        commit = repository.commit_of(revision)
        if commit is None:
            self.send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            return
        files = [{"rfilename": path} for path in repository.commits[commit]]
        content = {"_id": "1", "id": name, "modelId": name, "sha": commit, "siblings": files}
        self.send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _give(self, name: str, revision: str, path: str) -> None:
        repository = self._seen(name)
        if repository is None:
            return
        commit = repository.commit_of(revision)
        if commit is None:
            self.send(404, b"", {"X-Error-Code": "RevisionNotFound"})
            return
        content = repository.commits[commit].get(path)
        if content is None:
            self.send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        elif path.endswith(".safetensors") and self.server.cdn is not None:
            where = f"{self.server.cdn}/{name}/{commit}/{path}?signature=abc"
            headers = {"Location": where, "X-Repo-Commit": commit, "X-Linked-Size": "1"}
            self.send(302, b"", headers)
        else:
            self.send(
                200, content, {"X-Repo-Commit": commit, "ETag": f'"{sha1(content).hexdigest()}"'}
            )

    def _seen(self, name: str) -> Repository | None:
        """None, with an answer given, if the caller may not see it."""
        repository = self.server.repositories.get(name)
        asked_with = self.headers.get("authorization", "").removeprefix("Bearer ")
        if repository is None or (repository.token and asked_with != repository.token):
            self.send(401, b"", {"X-Error-Code": "RepoNotFound"})
            return None
        if repository.is_gated:
            self.send(403, b"", {"X-Error-Code": "GatedRepo"})
            return None
        return repository


@contextmanager
def hub_server() -> Iterator[HubServer]:
    with serving(HubServer()) as server:
        assert isinstance(server, HubServer)
        yield server
