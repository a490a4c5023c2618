"""`adaptry cache decisions`: what it says where there are none."""

from typing import Any

import pytest

from adaptry.cli import main
from tests.support.servers.scripted_http import answering

EMPTY: dict[str, Any] = {"items": [], "oldest_id": 0, "newest_id": 0}


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_decisions_of_an_adapter_that_does_not_exist_are_refused(
    capsys: pytest.CaptureFixture[str], as_json: list[str]
) -> None:
    nobody = {"code": "unknown_adapter", "detail": "there is no adapter 'nobody'"}
    with answering() as server:
        server.will_say(200, EMPTY)
        server.will_say(404, nobody)
        asked = ["cache", "decisions", "--adapter", "nobody", *as_json, "--server", server.url]
        code = main(asked)
    captured = capsys.readouterr()
    assert (code, captured.out) == (1, "")
    assert "there is no adapter 'nobody'" in captured.err


def test_an_adapter_without_decisions_has_none_yet(capsys: pytest.CaptureFixture[str]) -> None:
    with answering() as server:
        server.will_say(200, EMPTY)
        code = main(["cache", "decisions", "--server", server.url])
    assert code == 0
    assert "no decisions yet" in capsys.readouterr().err
