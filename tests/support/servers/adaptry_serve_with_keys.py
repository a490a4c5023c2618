"""A real server that asks for keys, and the one that was made before its start."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import pytest

from adaptry.cli import main
from adaptry.client import Client
from tests.support.servers.adaptry_serve import ServedDemo


@dataclass
class Keyed:
    """A server, and the key that was made before its start."""

    served: ServedDemo
    root: str

    @property
    def url(self) -> str:
        return str(self.served.client.base_url)

    def client(self, key: str | None = None) -> Client:
        return Client(self.url, api_key=key)

    def key(self, name: str, scope: str) -> str:
        with self.client(self.root) as client:
            return client.keys.create(name, [scope]).key  # type: ignore[list-item]  # one of four

    def openai(self, key: str) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0)

    def http(self, key: str) -> httpx.Client:
        """Past our client: for what it would never send."""
        headers = {"authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)


@contextmanager
def serving_with_keys(folder: Path, arguments: Sequence[str] = ()) -> Iterator[Keyed]:
    """`arguments`: more of them, for `adaptry serve`."""
    served = ServedDemo(folder, require_keys="true")
    served.arguments = tuple(arguments)
    root = create_root_key(served.folder)
    served.start()
    try:
        yield Keyed(served, root)
    finally:
        served.stop()
        served.client.close()


def create_root_key(folder: Path) -> str:
    """In the database of the server that will keep its state there."""
    database = f"sqlite:///{folder}/registry.db"
    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr("builtins.print", lambda *texts, **_: printed.append(str(texts[0])))
        assert main(["key", "create", "root", "--scope", "admin", "--database", database]) == 0
    return printed[-1]
