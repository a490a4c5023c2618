"""Words of a text: what is written and what is searched become the same."""

from hypothesis import given
from hypothesis import strategies as st

from registry.search.repository import words


@given(st.text())
def test_words_of_words_are_the_same(text: str) -> None:
    found = words(text)
    assert words(" ".join(found)) == found
    assert all(found)


@given(st.text(), st.text())
def test_texts_stay_apart(one: str, other: str) -> None:
    assert words(one, other) == words(one) + words(other)


def test_what_separates_and_what_is_one() -> None:
    assert words("Support-bot_v2.1, ÉTÉ", None, "ﬁne Straße") == [
        "support",
        "bot",
        "v2",
        "1",
        "été",
        "fine",
        "strasse",
    ]
    assert words("") == words(None) == words("-- _") == []
