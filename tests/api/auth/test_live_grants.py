"""What a tenant is granted while an answer to it goes on."""

import pytest

from registry.auth.caller import ANONYMOUS, Caller
from registry.auth.scopes import EVERY_SCOPE
from registry.database.engine import Database
from registry.service import RegistryService
from registry.tenants.live_grants import LiveGrants
from tests.api.conftest import AdapterMaker
from tests.api.keyed_client import Asked

pytestmark = pytest.mark.both_databases

SECRET = "acme~secret"
PATH = f"/adapters/{SECRET}/grants/other"


async def test_a_grant_and_its_end_count_for_what_goes_on(
    asked: Asked, service: RegistryService, database: Database, make_adapter: AdapterMaker
) -> None:
    for tenant in ("acme", "other"):
        await asked.ask("root", "POST", "/tenants", json={"name": tenant})
    await service.registrar.register(SECRET, str(make_adapter("one")), actor="root")
    grants = LiveGrants(database, fresh_seconds=0)
    caller = Caller("other~boss", EVERY_SCOPE)
    assert not (await grants.of(caller)).sees(SECRET)
    assert (await asked.ask("root", "PUT", PATH)).is_success
    caller = await grants.of(caller)
    assert caller.sees(SECRET)
    assert not caller.owns(SECRET)
    assert (await asked.ask("root", "DELETE", PATH)).is_success
    assert not (await grants.of(caller)).sees(SECRET)


async def test_the_platform_is_granted_nothing_and_sees_all(database: Database) -> None:
    assert await LiveGrants(database).of(ANONYMOUS) is ANONYMOUS
