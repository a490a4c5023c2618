"""Cache salts: a request never finds the blocks of another tenant."""

import itertools

import pytest

from engine.vllm.tenant_isolation import tenant_cache_salt
from registry.auth.caller import Caller, as_caller
from registry.auth.scopes import EVERY_SCOPE

ASKED = (None, "s", "acme", "acme~", "acme~s", "other~", "~", "~s")


def _salts_of(caller: str) -> set[str | None]:
    with as_caller(Caller(caller, EVERY_SCOPE)):
        return {tenant_cache_salt(asked) for asked in ASKED}


@pytest.mark.parametrize("asked", ASKED)
def test_the_platform_has_the_salt_that_it_asks_for(asked: str | None) -> None:
    assert tenant_cache_salt(asked) == asked
    with as_caller(Caller("root", EVERY_SCOPE)):
        assert tenant_cache_salt(asked) == asked


def test_no_tenant_can_ask_for_the_salt_of_another() -> None:
    salts = [_salts_of(f"{tenant}~app") for tenant in ("acme", "other", "acm", "s")]
    for one, another in itertools.combinations(salts, 2):
        assert not one & another
    assert all(None not in each for each in salts)


def test_all_keys_of_a_tenant_have_one_and_a_client_may_divide_it() -> None:
    assert _salts_of("acme~app") == _salts_of("acme~boss")
    assert len(_salts_of("acme~app")) == len(ASKED)
