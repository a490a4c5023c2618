"""Requests, registrations and alias moves in the background, so that every series moves."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Protocol

import httpx

ROOT = Path(__file__).parents[3]
BUSY = "busy-adapter"
REQUEST_PAUSE_SECONDS = 0.1
MOVE_EVERY = 40  # requests


class Server(Protocol):
    """What the session's server fixture gives."""

    @property
    def base_url(self) -> str: ...


class Traffic:
    """Asks for one adapter twice as often as for any other, and yet finds it evicted each time:

    between two of its requests there are two others, and the demo has two slots.
    """

    def __init__(self, server: Server) -> None:
        self._client = httpx.Client(base_url=server.base_url, trust_env=False, timeout=60)
        self._over = threading.Event()
        self._moving = threading.Lock()
        self._moves_aliases = True

    def register(self) -> None:
        """Two versions of the busy adapter, and a registration that fails."""
        self._post(f"adapters/{BUSY}/versions", {"source": str(ROOT / "demo/adapters/upper")})
        self._post(f"adapters/{BUSY}/versions", {"source": str(ROOT / "demo/adapters-v2/upper")})
        path = f"/api/v1/adapters/{BUSY}/versions"
        missing = {"source": str(ROOT / "demo" / "nothing-there")}
        assert self._client.post(path, json=missing).is_client_error

    def run(self) -> None:
        """Until it is over."""
        versions = cycle((2, 1))
        for turn, model in enumerate(self._models()):
            if self._over.wait(REQUEST_PAUSE_SECONDS):
                return
            body = {"model": model, "prompt": "a=", "max_tokens": 2}
            self._client.post("/v1/completions", json=body)
            if turn % MOVE_EVERY == 0:
                self._move(next(versions))

    @contextmanager
    def without_moves(self) -> Iterator[None]:
        """Aliases stay where they are: a pin is of a version, and a move takes its time."""
        with self._moving:
            self._moves_aliases = False
        try:
            yield
        finally:
            self._moves_aliases = True

    def end(self) -> None:
        self._over.set()

    def close(self) -> None:
        """Once `run` has returned."""
        self._client.close()

    def promote(self, number: int) -> None:
        path = f"/api/v1/adapters/{BUSY}/aliases/default"
        assert self._client.put(path, json={"version": number}).is_success

    def _move(self, number: int) -> None:
        with self._moving:
            if self._moves_aliases:
                self._refused()
                self.promote(number)

    def _models(self) -> Iterator[str]:
        listed = self._client.get("/v1/models").json()["data"]
        others = cycle(m["id"] for m in listed if m.get("parent") and m["id"] != BUSY)
        while True:
            yield from (BUSY, next(others), next(others))

    def _refused(self) -> None:
        body = {"model": f"{BUSY}:99", "prompt": "a=", "max_tokens": 1}
        assert self._client.post("/v1/completions", json=body).is_client_error

    def _post(self, path: str, body: dict[str, object]) -> None:
        response = self._client.post(f"/api/v1/{path}", json=body)
        assert response.status_code in (200, 201), response.text


@contextmanager
def traffic_on(server: Server) -> Iterator[Traffic]:
    traffic = Traffic(server)
    traffic.register()
    asking = threading.Thread(target=traffic.run)
    asking.start()
    try:
        yield traffic
    finally:
        traffic.end()
        asking.join()
        traffic.promote(1)
        traffic.close()
