"""HTTP client of one stock vLLM server: health, models, LoRA loading, log probabilities.

Source of the routes: `vllm/entrypoints/serve/lora/api_router.py` (0.26 to 0.32); the server needs
`VLLM_ALLOW_RUNTIME_LORA_UPDATING=1` for them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any

import httpx

from engine.errors import AdapterLost, AnswerTimeout, EngineError, EngineUnavailable
from engine.types import AdapterVersion

_CONNECT_SECONDS = 5.0
_NO_MODEL = "adaptry asks whether this is refused"
_FOREIGN = (ValueError, LookupError, TypeError, AttributeError, StopIteration, RecursionError)
"""What an answer raises that has not vLLM's form."""
_OURS = re.compile(r".+:\d+-[0-9a-f]{8}")  # `AdapterVersion.engine_name`


class StockVllm:
    """`url` without a path. `api_key`: the server's `--api-key`.

    `silent_seconds`: a request is given up once nothing was sent or received for so long.
    """

    def __init__(
        self, url: str, api_key: str | None, *, load_seconds: float, silent_seconds: float
    ) -> None:
        self.url = url
        self._silent_seconds = silent_seconds
        self._load_seconds = load_seconds
        self._http = httpx.AsyncClient(
            base_url=url,
            timeout=httpx.Timeout(silent_seconds, connect=_CONNECT_SECONDS, pool=None),
            limits=httpx.Limits(max_connections=None, keepalive_expiry=2),
            headers={} if api_key is None else {"authorization": f"Bearer {api_key}"},
            trust_env=False,
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def is_healthy(self) -> bool:
        try:
            response = await self._http.get("/health", timeout=_CONNECT_SECONDS)
        except httpx.HTTPError:
            return False
        return response.status_code == httpx.codes.OK

    async def cards(self) -> list[Mapping[str, Any]]:
        """Base models and adapters, as `/v1/models` has them, each with its `id`.

        Raises EngineUnavailable.
        """
        with self._translate_errors():
            response = await self._http.get("/v1/models", timeout=_CONNECT_SECONDS)
            response.raise_for_status()
            return [{**card, "id": str(card["id"])} for card in response.json()["data"]]

    async def base_model(self) -> tuple[str, int]:
        """What the server was started with, and its longest context. Raises EngineUnavailable."""
        cards = await self.cards()
        with self._translate_errors():
            base = cards[0]  # vLLM lists its base model first
            return str(base["root"]), int(base["max_model_len"])

    async def models(self) -> list[str]:
        """Base models and adapters, by name. Raises EngineUnavailable."""
        return [str(card["id"]) for card in await self.cards()]

    async def loaded_adapters(self) -> list[str]:
        """Adapters whose name is an `AdapterVersion.engine_name`. Raises EngineUnavailable."""
        return [name for name in await self.models() if _OURS.fullmatch(name)]

    async def takes_any_name(self) -> bool:
        """Whether it answers for the name of no model. Raises EngineUnavailable."""
        body = {"model": _NO_MODEL, "prompt": "x"}
        try:
            response = await self._http.post("/tokenize", json=body, timeout=_CONNECT_SECONDS)
        except httpx.HTTPError as error:
            raise _unavailable(self.url, error) from error
        return response.is_success

    async def load(self, name: str, path: str) -> str | None:
        """The reason if the server refused, else None. Raises EngineUnavailable."""
        return await self._post_lora("load", {"lora_name": name, "lora_path": path})

    async def unload(self, name: str) -> str | None:
        """The reason if the server refused, else None. Raises EngineUnavailable."""
        return await self._post_lora("unload", {"lora_name": name})

    async def prompt_log_probabilities(self, model: str, tokens: Sequence[int]) -> list[float]:
        """For each token but the first. Raises EngineUnavailable."""
        body = {"model": model, "prompt": list(tokens), "max_tokens": 1, "temperature": 0}
        with self._translate_errors():
            response = await self._http.post("/v1/completions", json=body | {"prompt_logprobs": 0})
            response.raise_for_status()
            entries = response.json()["choices"][0]["prompt_logprobs"]
            return [float(next(iter(token.values()))["logprob"]) for token in entries[1:]]

    async def _post_lora(self, verb: str, body: Mapping[str, str]) -> str | None:
        try:
            response = await self._http.post(
                f"/v1/{verb}_lora_adapter", json=body, timeout=self._load_seconds
            )
        except httpx.HTTPError as error:
            raise _unavailable(self.url, error) from error
        return None if response.is_success else _reason(response)

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Raises EngineUnavailable for no answer, and for one that is not vLLM's."""
        try:
            yield
        except httpx.HTTPError as error:
            raise _unavailable(self.url, error) from error
        except _FOREIGN as error:
            raise EngineUnavailable(f"{self.url} does not answer as vLLM does") from error

    def stream(
        self, method: str, path: str, headers: Sequence[tuple[bytes, bytes]], body: bytes
    ) -> AbstractAsyncContextManager[httpx.Response]:
        """Raises httpx.HTTPError on entry, and while it is read; TimeoutException when it stops."""
        return self._http.stream(method, path, headers=list(headers), content=body)

    def failure(self, error: httpx.HTTPError) -> EngineError:
        """What the error of a stream means."""
        is_silent = isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout)
        return AnswerTimeout(self._silent_seconds) if is_silent else _unavailable(self.url, error)


def _unavailable(url: str, error: Exception) -> EngineUnavailable:
    return EngineUnavailable(f"{url}: {str(error) or type(error).__name__}")


def _reason(response: httpx.Response) -> str:
    try:
        content: Any = response.json()
        return str(content["error"]["message"])
    except _FOREIGN:
        return f"status {response.status_code}"


async def check_not_lost(response: httpx.Response, version: AdapterVersion | None) -> None:
    """Of a request for what was loaded there. Raises AdapterLost if the server has it no longer."""
    if version is None or response.status_code != httpx.codes.NOT_FOUND:
        return
    if version.engine_name.encode() in await response.aread():
        raise AdapterLost(f"{response.url.host} has lost {version.reference}")
