"""Places: a tenant can't take them all, and the platform may."""

from registry.quotas.places import Places


def taken_by(places: Places, tenant: str | None) -> int:
    count = 0
    while places.has_place(tenant):
        places.take(tenant)
        count += 1
    return count


def test_each_tenant_leaves_places_to_others() -> None:
    places = Places(8)
    assert [taken_by(places, tenant) for tenant in "abcde"] == [4, 2, 1, 1, 0]
    assert not places.has_place(None)


def test_the_platform_may_take_all() -> None:
    assert taken_by(Places(8), None) == 8


def test_the_only_place_is_for_whoever_comes_first() -> None:
    places = Places(1)
    with places.hold("a"):
        assert places.taken == 1
        assert not places.has_place("b")
    assert places.has_place("b")


def test_of_two_places_a_tenant_gets_one() -> None:
    places = Places(2)
    assert [taken_by(places, tenant) for tenant in "ab"] == [1, 1]
    places.give_back("a")
    assert not places.has_place("b")
    assert places.has_place("c")
