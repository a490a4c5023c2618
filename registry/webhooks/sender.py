"""Webhook sender: one attempt to deliver one message."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from registry.errors import RegistryError
from registry.redaction import redact
from registry.sources.egress_guard import EgressGuard, guarded_client
from registry.webhooks.signing import signature_headers

_EXCERPT_BYTES = 500


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome of an attempt. `status_code` is None without a response."""

    status_code: int | None = None
    error: str | None = None
    retry_after_seconds: int | None = None

    @property
    def is_delivered(self) -> bool:
        return self.error is None

    @property
    def is_gone(self) -> bool:
        """The endpoint answered 410: it wants no more messages."""
        return self.status_code == httpx.codes.GONE


class WebhookSender:
    """Sends signed messages to addresses that `guard` allows. Follows no redirect."""

    def __init__(self, guard: EgressGuard, *, timeout_seconds: float, user_agent: str) -> None:
        self._client = guarded_client(guard, timeout_seconds=timeout_seconds)
        self.timeout_seconds = timeout_seconds
        self._headers = {"content-type": "application/json", "user-agent": user_agent}

    async def close(self) -> None:
        await self._client.aclose()

    async def send(self, url: str, keys: Sequence[str], message_id: str, body: bytes) -> Outcome:
        """Never raises except on cancellation: every failure is an outcome."""
        headers = self._headers | signature_headers(keys, message_id, int(time.time()), body)
        try:
            async with asyncio.timeout(self.timeout_seconds):
                return await self._post(url, headers, body)
        except (TimeoutError, httpx.TimeoutException):
            return Outcome(error=f"no answer within {self.timeout_seconds:g} s")
        except RegistryError as error:
            return Outcome(error=f"{error.detail} [{error.code}]")
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            return Outcome(error=redact(f"{type(error).__name__}: {error}")[:1024])

    async def _post(self, url: str, headers: dict[str, str], body: bytes) -> Outcome:
        async with self._client.stream("POST", url, content=body, headers=headers) as response:
            if response.is_success:
                return Outcome(response.status_code)
            if response.is_redirect:
                return Outcome(response.status_code, "it redirects; redirects are not followed")
            return Outcome(
                response.status_code,
                f"HTTP {response.status_code}: {await _read_excerpt(response)}".rstrip(": "),
                _seconds(response.headers.get("retry-after")),
            )


async def _read_excerpt(response: httpx.Response) -> str:
    """The beginning of the response, for its error message."""
    shown = b""
    async for chunk in response.aiter_raw(_EXCERPT_BYTES):
        shown += chunk
        if len(shown) >= _EXCERPT_BYTES:
            break
    text = shown[:_EXCERPT_BYTES].decode("utf-8", "replace").replace("\0", "")
    return redact(" ".join(text.split()))


def _seconds(retry_after: str | None) -> int | None:
    if retry_after is None or not (retry_after.isascii() and retry_after.isdigit()):
        return None
    return min(int(retry_after[:9]), 24 * 3600)
