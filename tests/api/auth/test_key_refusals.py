"""Refused keys: counted by reason, logged at a limited rate, answered alike."""

import logging
from datetime import timedelta

import httpx
import pytest
from prometheus_client import CollectorRegistry
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from registry.auth.key_secret import new_key
from registry.auth.keys import KeyService
from registry.auth.refusal_log import RefusalLog
from registry.auth.scopes import Scope as KeyScope
from registry.database.engine import Database
from registry.errors.access import KeyRefusal
from registry.http.authentication import AuthenticationMiddleware
from registry.http.trusted_proxies import ClientAddressMiddleware
from registry.models import now
from registry.telemetry.metrics import RegistryMetrics


async def reached(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("reached")(scope, receive, send)


@pytest.fixture
def series() -> CollectorRegistry:
    return CollectorRegistry()


async def test_each_refusal_is_counted_by_its_reason(
    database: Database, series: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    keys, metrics = KeyService(database), RegistryMetrics(series)
    clock = [100.0]
    refusals = RefusalLog(metrics.on_key_refusal, lambda: clock[0])
    guard = ClientAddressMiddleware(
        AuthenticationMiddleware(reached, authenticate=keys.authenticate, refusals=refusals)
    )
    good, _ = await keys.create("app", [KeyScope.INFER], actor="tests")
    gone, _ = await keys.create("gone", [KeyScope.INFER], actor="tests")
    past = now() - timedelta(seconds=1)
    old, _ = await keys.create("old", [KeyScope.INFER], actor="tests", expires_at=past)
    await keys.revoke("gone", actor="tests")
    sent = {
        KeyRefusal.MISSING: None,
        KeyRefusal.MALFORMED: "Basic abc",
        KeyRefusal.UNKNOWN: f"Bearer {new_key()[0]}",
        KeyRefusal.EXPIRED: f"Bearer {old}",
        KeyRefusal.REVOKED: f"Bearer {gone}",
        KeyRefusal.SCOPE: f"Bearer {good}",
    }
    transport = httpx.ASGITransport(guard, client=("192.0.2.7", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        with caplog.at_level(logging.WARNING, "registry.auth.refusal_log"):
            for authorization in sent.values():
                headers = {} if authorization is None else {"authorization": authorization}
                answer = await http.get("/api/v1/keys", headers=headers)
                assert answer.status_code in (401, 403)
            clock[0] += 11
            await http.get("/api/v1/keys", headers={"authorization": "Basic abc"})
            await http.get("/v1/models", headers={"authorization": f"Bearer {good}"})
    counted = {
        refusal: series.get_sample_value("adaptry_key_refusals_total", {"reason": refusal})
        for refusal in KeyRefusal
    }
    expected = dict.fromkeys(sent, 1.0)
    assert counted == {**expected, KeyRefusal.MALFORMED: 2.0, KeyRefusal.PLATFORM: 0.0}
    assert [record.getMessage() for record in caplog.records] == [
        "refused an API key from 192.0.2.7: malformed",
        "refused an API key from 192.0.2.7: malformed, and 4 more since the last line",
    ]
    assert good[17:] not in caplog.text
