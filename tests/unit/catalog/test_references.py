"""The reference grammar: what is read is what is written, and nothing else gets in."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.auth.caller import Caller
from registry.errors import InvalidReference
from registry.references import (
    MAX_NAME,
    MAX_VERSION,
    AdapterReference,
    check_alias,
    check_name,
    check_tenant,
    parse_reference,
    tenant_of,
)

BARE = st.from_regex(r"\A[a-z0-9][a-z0-9._-]{0,63}\Z")
TENANTS = st.from_regex(r"\A[a-z0-9][a-z0-9-]{0,31}\Z")
OF_TENANTS = st.builds("{}~{}".format, TENANTS, BARE).map(lambda name: name[:MAX_NAME])
NAMES = BARE | OF_TENANTS
REFERENCES = st.one_of(
    st.builds(AdapterReference, NAMES),
    st.builds(AdapterReference, NAMES, alias=BARE),
    st.builds(AdapterReference, NAMES, version=st.integers(1, MAX_VERSION)),
)
NEARLY_NAMES = st.text("ab0._-~A@:/ é\n", max_size=70)
FIRST, IN_TENANT = set("abcdefghijklmnopqrstuvwxyz0123456789"), set("-")


def is_bare(text: str) -> bool:
    """The rule once more, spelled out."""
    return text[:1] in FIRST and set(text) <= FIRST | set("._-") and len(text) <= MAX_NAME


def is_tenant(text: str) -> bool:
    return text[:1] in FIRST and set(text) <= FIRST | IN_TENANT and len(text) <= 32


def is_accepted(check: Callable[[str], str], text: str) -> bool:
    try:
        return check(text) == text
    except InvalidReference:
        return False


@given(REFERENCES)
def test_a_reference_reads_back_as_itself(reference: AdapterReference) -> None:
    assert parse_reference(str(reference)) == reference


@given(NAMES | NEARLY_NAMES | st.builds("{}~{}".format, NEARLY_NAMES, NEARLY_NAMES))
def test_names_are_those_of_the_rule_and_no_others(text: str) -> None:
    assert is_accepted(check_alias, text) == is_bare(text)
    assert is_accepted(check_tenant, text) == is_tenant(text)
    tenant, tilde, bare = text.partition("~")
    of_tenant = is_tenant(tenant) and is_bare(bare) and len(text) <= MAX_NAME
    assert is_accepted(check_name, text) == (of_tenant if tilde else is_bare(text))


@given(TENANTS, TENANTS, BARE)
def test_a_name_is_in_one_namespace(tenant: str, another: str, bare: str) -> None:
    """Also where one tenant's name begins with another's."""
    name = f"{tenant}~{bare}"
    assert tenant_of(name) == tenant
    assert tenant_of(bare) is None
    caller = Caller(f"{another}~app", frozenset())
    assert caller.owns(name) == caller.sees(name) == (another == tenant)
    assert not caller.sees(bare)
    granted = Caller(f"{another}~app", frozenset(), frozenset({name, bare}))
    assert granted.sees(name)
    assert granted.sees(bare)
    assert granted.owns(name) == (another == tenant)


@given(st.text(max_size=100))
def test_any_text_is_a_reference_or_a_clear_refusal(text: str) -> None:
    try:
        reference = parse_reference(text)
    except InvalidReference:
        return
    assert str(reference) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("support-bot", AdapterReference("support-bot")),
        ("support-bot@prod", AdapterReference("support-bot", alias="prod")),
        ("support-bot:3", AdapterReference("support-bot", version=3)),
        ("0.a_b-c", AdapterReference("0.a_b-c")),
        ("acme~bot", AdapterReference("acme~bot")),
        ("acme~bot@prod", AdapterReference("acme~bot", alias="prod")),
        ("a-1~0.b:3", AdapterReference("a-1~0.b", version=3)),
    ],
)
def test_the_three_forms(text: str, expected: AdapterReference) -> None:
    assert parse_reference(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Upper",
        "-a",
        ".a",
        "a/b",
        "../a",
        "a b",
        "a@",
        "@a",
        "a:",
        ":1",
        "a:0",
        "a:01",
        "a:-1",
        "a:1.0",
        "a:x",
        f"a:{MAX_VERSION + 1}",
        "a:99999999999999999999",
        "a@b@c",
        "a:1@b",
        "a@b:1",
        "a\n",
        "ａ",
        "a:１",
        "x" * 65,
        "a@" + "x" * 65,
        "~a",
        "a~",
        "a~b~c",
        "A~b",
        "a.b~c",
        "a_b~c",
        "-a~b",
        "a~.b",
        "a@b~c",
        "x" * 33 + "~a",
        "a~" + "x" * 63,
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidReference):
        parse_reference(text)
