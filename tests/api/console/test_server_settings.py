"""The settings route: what is in effect, without secrets, for the platform's administrators."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import make_url

from engine.api.server_settings import Parts, create_settings_router
from engine.settings import EngineSettings
from registry.auth.caller import Caller
from registry.auth.scopes import EVERY_SCOPE, Scope, rule_for
from registry.errors import DatabaseUnavailable, StoreUnavailable
from registry.http.authentication import AuthenticationMiddleware
from registry.settings import RegistrySettings
from tests.support.servers.asgi_server import take_in

SECRETS = ("hunter2-secret", "swordfish9", "vllm-key-1")


class Fine:
    async def ping(self) -> None:
        """It answers."""

    async def check_store(self) -> None:
        """It answers."""


class Away:
    async def ping(self) -> None:
        raise DatabaseUnavailable("postgresql://me:hunter2-secret@db is away")

    async def check_store(self) -> None:
        raise StoreUnavailable("the store does not answer within 2 s")


async def ask(
    registry: RegistrySettings, caller: Caller | None = None, parts: Parts | None = None
) -> Any:
    app = FastAPI()
    engine = Namespace(model="demo/base", max_loras=2, api_key=["vllm-key-1"])
    settings = EngineSettings(max_loads=7)
    take_in(app, create_settings_router(registry, settings, engine, parts or Fine()))
    if caller is not None:

        async def authenticate(_: str) -> Caller:
            return caller

        app.add_middleware(AuthenticationMiddleware, authenticate=authenticate)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://x", headers={"authorization": "Bearer any"}
    ) as client:
        return await client.get("/api/v1/settings")


def settings_of(tmp_path: Path, **more: Any) -> RegistrySettings:
    url = f"sqlite+aiosqlite:///{tmp_path}/registry.db"
    return RegistrySettings(**{"database_url": url, "store": tmp_path, **more})


async def test_what_is_in_effect_is_shown(tmp_path: Path) -> None:
    found = (await ask(settings_of(tmp_path, max_ingests=9))).json()
    items = {item["name"]: item for item in found["items"]}
    assert items["ADAPTRY_MAX_INGESTS"]["value"] == 9
    assert items["ADAPTRY_MAX_INGESTS"]["is_default"] is False
    assert items["ADAPTRY_MAX_UPLOADS"]["is_default"] is True
    assert (items["ADAPTRY_MAX_LOADS"]["part"], items["ADAPTRY_MAX_LOADS"]["value"]) == ("cache", 7)
    assert (items["--max-loras"]["part"], items["--max-loras"]["value"]) == ("engine", 2)
    fields = {*RegistrySettings.model_fields, *EngineSettings.model_fields}
    assert {f"ADAPTRY_{name.upper()}" for name in fields} <= set(items)
    assert found["database"]["kind"] == "SQLite"
    assert (found["database"]["problem"], found["store"]["problem"]) == (None, None)
    assert 0 < found["store"]["free_bytes"] <= found["store"]["total_bytes"]


async def test_no_secret_is_shown(tmp_path: Path) -> None:
    registry = settings_of(
        tmp_path,
        database_url="postgresql+asyncpg://me:hunter2-secret@db/x",
        mlflow_tracking_uri="https://mlflow/?token=swordfish9",
        rates_url="redis://:swordfish9@cache/0",
    )
    answer = await ask(registry, parts=Away())
    assert answer.status_code == 200
    assert [secret for secret in SECRETS if secret in answer.text] == []
    items = {item["name"]: item["value"] for item in answer.json()["items"]}
    assert items["ADAPTRY_DATABASE_URL"].endswith("[hidden]@db/x")
    assert items["ADAPTRY_MLFLOW_TRACKING_URI"] == "https://mlflow/?token=[hidden]"
    assert "is away" in answer.json()["database"]["problem"]
    assert "does not answer" in answer.json()["store"]["problem"]


@pytest.mark.parametrize("password", ["hunter2/secret", "it's", "two words", 'a"b', "p#?:ss"])
async def test_no_password_of_a_database_is_shown(tmp_path: Path, password: str) -> None:
    """Whatever SQLAlchemy takes for one."""
    url = f"postgresql://me:{password}@db/x"
    assert make_url(url).password == password
    answer = await ask(settings_of(tmp_path, database_url=url), parts=Away())
    items = {item["name"]: item["value"] for item in answer.json()["items"]}
    assert items["ADAPTRY_DATABASE_URL"] == "postgresql+asyncpg://[hidden]@db/x"


@pytest.mark.parametrize("name", ["acme~boss", "operator"])
async def test_only_the_platforms_administrators_may_read_it(tmp_path: Path, name: str) -> None:
    scopes = EVERY_SCOPE if "~" in name else frozenset({Scope.OPERATE})
    answer = await ask(settings_of(tmp_path), Caller(name, scopes))
    assert answer.status_code == 403
    rule = rule_for("GET", "/api/v1/settings")
    assert rule.scopes == frozenset({Scope.ADMIN})
    assert rule.platform
