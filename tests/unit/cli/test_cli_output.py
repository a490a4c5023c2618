"""Output of commands: columns, fields, sizes and progress."""

import io
from collections import Counter

import pytest

from adaptry.client.models import RateUsageRead, ResidentRead, UsedRateRead
from adaptry.commands.cache import _row
from adaptry.terminal.job_progress import PhaseLine
from adaptry.terminal.output import JsonValue, counted, show_fields, show_table, size, text
from adaptry.terminal.rates import show_rates
from adaptry.top.model import Row
from adaptry.top.screen import _cells


def test_columns_are_aligned_and_numbers_are_right_aligned(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_table(("NAME", "RANK"), [("upper", "8"), ("rot13", "16")])
    assert capsys.readouterr().out == "NAME   RANK\nupper     8\nrot13    16\n"


def test_digests_and_times_are_no_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    cells = ("3c0d66f12404", "2026-11-30 03:22:21Z", "156.0 KiB", "37.5%", "12/60")
    aligned = []
    for cell in cells:
        show_table(["A HEADING THAT IS LONGER THAN IT"], [(cell,)])
        aligned.append(capsys.readouterr().out.splitlines()[1].startswith(" "))
    assert aligned == [False, False, True, True, True]


def test_a_number_beside_text_is_no_number(capsys: pytest.CaptureFixture[str]) -> None:
    """As the version of an alias is, beside those of a split."""
    show_table(["VERSION"], [("1 (90%), 2 (10%)",), ("-",), ("1",)])
    assert capsys.readouterr().out.splitlines()[1:] == ["1 (90%), 2 (10%)", "-", "1"]


def test_rates_show_what_is_used_of_what(capsys: pytest.CaptureFixture[str]) -> None:
    used = UsedRateRead(limit=60, used=12, remaining=48, reset_seconds=3.0)
    show_rates([RateUsageRead(name="ci", requests=used, tokens=None, bytes=None)], as_json=False)
    assert capsys.readouterr().out == "NAME  REQUESTS  TOKENS  BYTES\nci       12/60  -       -\n"


def test_an_empty_table_is_its_headings(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(("NAME", "RANK"), [])
    assert capsys.readouterr().out == "NAME  RANK\n"


def test_fields_without_a_value_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    show_fields({"name": "upper", "description": None, "target_modules": ["q", "v"], "tags": {}})
    assert capsys.readouterr().out == "name            upper\ntarget_modules  q, v\n"


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "-"), (True, "yes"), (False, "no"), (3, "3"), ({"a": 1}, "a=1")]
)
def test_a_value_is_shown_on_one_line(value: JsonValue, shown: str) -> None:
    assert text(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (84 * 2**20, "84.0 MiB"),
        (1280, "1.3 KiB"),
        (156 * 2**10, "156 KiB"),
        (150_300_000, "143 MiB"),
        (2**60, "1048576 TiB"),
    ],
)
def test_a_size_is_shown_in_a_fitting_unit(value: int, shown: str) -> None:
    assert size(value) == shown


def test_the_size_of_a_resident_is_the_api_s_wherever_it_is_shown() -> None:
    """In `cache show` and `cache top`; the console's is held by tests/browser."""
    resident = ResidentRead(
        reference="upper:3",
        version_id=3,
        rank=8,
        size_bytes=136_294,
        host_bytes=150_300_000,
        pinned=None,
        leases=0,
        waiting=0,
        hits=1,
        slot=0,
        idle_seconds=1.0,
        leaving=False,
    )
    row = Row("gpu", resident.reference, resident, Counter())
    assert {"143 MiB"} == {
        cell
        for cells in (_row("gpu", resident), _cells(row))
        for cell in cells
        if cell.endswith("B")
    }


def test_progress_into_a_file_writes_one_line_per_phase() -> None:
    stream = io.StringIO()
    progress = PhaseLine(stream)
    for phase in ("one", "one", "two"):
        progress.show(phase)
    progress.end()
    assert [line.split()[-1] for line in stream.getvalue().splitlines()] == ["one", "two"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal_rewrites_its_line_and_clears_it() -> None:
    stream = Terminal()
    progress = PhaseLine(stream)
    progress.show("one")
    progress.show("two")
    progress.end()
    assert "\n" not in stream.getvalue()
    assert stream.getvalue().endswith("\r\033[K")


def test_one_thing_is_counted_as_one() -> None:
    shown = [counted(number, "version") for number in (0, 1.0, 2, 1234)]
    assert shown == ["0 versions", "1 version", "2 versions", "1,234 versions"]
