"""Guards in their order: an address is limited before its key is looked at, a key after it."""

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from engine.http.middleware import create_guards
from engine.settings import EngineSettings
from registry.auth.caller import Caller
from registry.auth.rate_limits import RateLimits
from registry.auth.scopes import EVERY_SCOPE
from registry.errors import InvalidKey
from registry.quotas.limits import unlimited
from registry.rates.caller_rates import CallerRates
from registry.rates.windows import RateWindows
from registry.settings import RegistrySettings


class Keys:
    """The key `good`, limited to one request per minute."""

    def __init__(self) -> None:
        self.asked = 0

    async def authenticate(self, text: str) -> Caller:
        self.asked += 1
        if text != "good":
            raise InvalidKey
        return Caller("ci", EVERY_SCOPE, rates=RateLimits(max_requests_per_minute=1))


async def answer(request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")


async def statuses(keys: Keys, key: str, *, is_replica: bool, most: int | None) -> list[int]:
    guards = create_guards(
        EngineSettings(),
        RegistrySettings(require_keys=True, address_requests_per_minute=most),
        keys,  # type: ignore[arg-type]  # only `authenticate` is called
        lambda refusal: None,
        [],
        rates=None if is_replica else CallerRates(RateWindows(), unlimited),
    )
    app = Starlette(routes=[Route("/v1/models", answer)], middleware=guards)
    transport = httpx.ASGITransport(app, client=("192.0.2.1", 1))
    async with httpx.AsyncClient(
        transport=transport,
        base_url="http://test",
        headers={"authorization": f"Bearer {key}"},
    ) as http:
        return [(await http.get("/v1/models")).status_code for _ in range(3)]


async def test_who_guesses_keys_is_refused_before_they_are_looked_at() -> None:
    keys = Keys()
    assert await statuses(keys, "bad", is_replica=False, most=2) == [401, 401, 429]
    assert keys.asked == 2


@pytest.mark.parametrize(
    ("is_replica", "expected"), [(False, [200, 429, 429]), (True, [200, 200, 200])]
)
async def test_a_key_is_limited_by_the_ingress_and_not_again_by_a_replica(
    is_replica: bool, expected: list[int]
) -> None:
    assert await statuses(Keys(), "good", is_replica=is_replica, most=None) == expected
