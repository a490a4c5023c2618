"""The calls of gateway-api's LoRA sidecar (dynamic-lora-sidecar), which no index has as a package.

Compared with its `sidecar.py` of commit 5423be54: routes, order, bodies, what counts as done.
It reads a list of adapters that should be there and of those that should not, and every few
seconds makes these calls, each over a connection of its own and without a key. What a server
answers is to it success (2xx) or not; `/v1/models` has to name the adapters by exactly their ids.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import httpx

HEALTH_SECONDS = 10.0
INTERVAL_SECONDS = 0.05  # its own are 2 s


@dataclass
class LoraSidecar:
    """`wanted`: the sources by id. `calls`: what was asked last, with the status."""

    url: str
    wanted: Mapping[str, str] = field(default_factory=dict)
    unwanted: Sequence[str] = ()
    base_model: str = ""
    calls: list[tuple[str, int]] = field(default_factory=list)

    def reconcile(self) -> dict[str, int]:
        """One round: the status of each load and unload that it took. Blocks."""
        self.calls.clear()
        self._wait_for_health()
        done: dict[str, int] = {}
        for name, source in self.wanted.items():
            if name not in self.unwanted and name not in self._listed():
                body = {
                    "lora_name": name,
                    "lora_path": source,
                    "base_model_name": self.base_model,
                }
                done[name] = self._call("POST", "/v1/load_lora_adapter", body).status_code
        for name in self.unwanted:
            if name not in self.wanted and name in self._listed():
                body = {"lora_name": name}
                done[name] = self._call("POST", "/v1/unload_lora_adapter", body).status_code
        return done

    def _wait_for_health(self) -> None:
        """Until 200, whatever else it hears, a refused connection too."""
        deadline = time.monotonic() + HEALTH_SECONDS
        while self._health() != 200:
            assert time.monotonic() < deadline, self.calls
            time.sleep(INTERVAL_SECONDS)

    def _health(self) -> int:
        try:
            return self._call("GET", "/health").status_code
        except httpx.TransportError:
            self.calls.append(("GET /health", 0))
            return 0

    def _listed(self) -> list[str]:
        self._wait_for_health()
        models = self._call("GET", "/v1/models").json()["data"]
        return [str(model["id"]) for model in models]

    def _call(
        self, method: str, path: str, body: Mapping[str, str] | None = None
    ) -> httpx.Response:
        response = httpx.request(method, f"{self.url}{path}", json=body, timeout=60)
        self.calls.append((f"{method} {path}", response.status_code))
        return response
