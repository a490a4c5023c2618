"""The reference grammar: what is read is what is written, and nothing else gets in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import InvalidReference
from registry.names import MAX_VERSION, AdapterReference, parse_reference

NAMES = st.from_regex(r"\A[a-z0-9][a-z0-9._-]{0,63}\Z")
REFERENCES = st.one_of(
    st.builds(AdapterReference, NAMES),
    st.builds(AdapterReference, NAMES, alias=NAMES),
    st.builds(AdapterReference, NAMES, version=st.integers(1, MAX_VERSION)),
)


@given(REFERENCES)
def test_a_reference_reads_back_as_itself(reference: AdapterReference) -> None:
    assert parse_reference(str(reference)) == reference


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
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidReference):
        parse_reference(text)
