"""`rank_pattern` and `alpha_pattern`: PEFT's rule, and nothing that could keep the server busy."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from registry.errors import InvalidAdapter
from registry.inspection.rank_patterns import resolve

pytestmark = [pytest.mark.timeout(60)]  # what is not refused in time would take for ever

MODULES = [f"model.layers.{n}.self_attn.{part}" for n in range(3) for part in ("q_proj", "k_proj")]


@pytest.mark.parametrize(
    ("key", "count"),
    [
        ("q_proj", 3),
        ("proj", 0),
        ("attn.q_proj", 0),
        ("self_attn.q_proj", 3),
        ("model.layers.1.self_attn.k_proj", 1),
        (r"layers\.[01]\..*", 4),
        (r"^model\.layers\.0\..*q_proj", 1),
        (r".*\.(q|k)_proj", 6),
        (r"layers\.\d+\.self_attn\.k_proj", 3),
        ("q_proj$", 3),
    ],
)
def test_a_key_means_the_modules_that_end_with_it(key: str, count: int) -> None:
    values = resolve("rank_pattern", {key: 9}, MODULES, 1)
    assert list(values) == MODULES
    assert list(values.values()).count(9) == count


def test_the_first_key_that_fits_counts() -> None:
    first = resolve("rank_pattern", {r"layers\.0\..*": 1, "q_proj": 2}, MODULES, 0)
    assert list(first.values()) == [1, 1, 2, 0, 2, 0]
    other = resolve("rank_pattern", {"q_proj": 2, r"layers\.0\..*": 1}, MODULES, 0)
    assert list(other.values()) == [2, 1, 2, 0, 2, 0]


def test_a_key_for_each_of_many_modules_is_no_trouble() -> None:
    names = [f"model.layers.{n}.mlp.part_{m}" for n in range(80) for m in range(7)]
    assert resolve("rank_pattern", {n: i for i, n in enumerate(names)}, names, 0) == {
        name: i for i, name in enumerate(names)
    }


@given(st.text(st.sampled_from("a.*+?|()[]^$\\d_-{}:lq"), max_size=30))
@example("(.|.)*l")
@example("(a|a)*(b|b)*" * 9 + "x")
@example("(" * 200)
@example("[" * 500)
@example("a**")
@example("\\")
def test_any_key_is_matched_or_refused_in_time(key: str) -> None:
    refusal = None
    try:
        values = resolve("alpha_pattern", {key: 1.0}, MODULES, 2.0)
    except InvalidAdapter as error:
        refusal = error
    if refusal is None:
        fits = re.compile(rf"(.*\.)?({key})$")
        assert values == {name: 1.0 if fits.match(name) else 2.0 for name in MODULES}
    else:
        assert refusal.code == "pattern_invalid"
        assert len(refusal.detail) < 300


def test_many_slow_keys_take_no_longer_than_one() -> None:
    slow = {f"(.|.)*l{'l' * n}": n for n in range(50)}
    with pytest.raises(InvalidAdapter):
        resolve("rank_pattern", slow, MODULES * 50, 0)
