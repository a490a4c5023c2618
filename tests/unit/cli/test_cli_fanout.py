"""`adaptry fanout`: whole answers and streams of several models, for people and for programs."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from adaptry.cli import main
from tests.support.servers.scripted_http import Answers, answering

Run = Callable[..., tuple[int, str, str]]
Json = dict[str, Any]

SIZE: Json = {"name": "size", "status": 200, "version": "size:1"}
ENDS: Json = {"name": "size", "chunk": {"choices": [{"text": "", "finish_reason": "stop"}]}}
USAGE: Json = {"name": "size", "chunk": {"choices": [], "usage": {}}}
NOBODY: Json = {"name": "nobody", "status": 404, "error": {"message": "there is no nobody"}}
DONE = b"data: [DONE]\n\n"


def said(text: str) -> Json:
    return {"name": "size", "chunk": {"choices": [{"text": text}]}}


def lines(*events: Json) -> bytes:
    return b"".join(f"data: {json.dumps(event)}\n\n".encode() for event in events)


@pytest.fixture
def server() -> Iterator[Answers]:
    with answering() as answers:
        yield answers


@pytest.fixture
def run(server: Answers, capsys: pytest.CaptureFixture[str]) -> Run:
    def command(*arguments: str) -> tuple[int, str, str]:
        models = ("--model", "size=#size=", "-m", "nobody")
        code = main(["fanout", "forest", *models, *arguments, "--server", server.url])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


def test_a_stream_is_a_line_for_each_piece(server: Answers, run: Run) -> None:
    stream = lines(SIZE, NOBODY, said("lö"), said("\nng"), ENDS, USAGE) + DONE
    server.will_say(200, stream, content_type="text/event-stream")
    shown = "nobody  404: there is no nobody\nsize    'lö'\nsize    '\\nng'\n"
    assert run("--stream", "--max-tokens", "4") == (1, shown, ""), "1: a model has failed"
    ((method, path, body),) = server.asked
    assert (method, path) == ("POST", "/v1/fanout")
    models = [{"model": "size", "suffix": "#size="}, {"model": "nobody"}]
    assert body == {"models": models, "prompt": "forest", "max_tokens": 4, "stream": True}


def test_a_stream_as_json_is_a_line_for_each_event(server: Answers, run: Run) -> None:
    events = [SIZE, said("lö"), ENDS]
    server.will_say(200, lines(*events) + DONE, content_type="text/event-stream")
    code, out, err = run("--stream", "--json")
    assert (code, err) == (0, "")
    assert [json.loads(line) for line in out.splitlines()] == events


def test_what_came_before_a_stream_broke_off_is_shown(server: Answers, run: Run) -> None:
    broken = {"name": "size", "error": {"message": "the engine has failed"}}
    server.will_say(200, lines(SIZE, said("lo"), broken), content_type="text/event-stream")
    code, out, err = run("--stream")
    assert (code, out) == (1, "size    'lo'\nsize    broken off: the engine has failed\n")
    assert err.count("\n") == 1
    assert "before its end" in err


def test_whole_answers_are_a_table(server: Answers, run: Run) -> None:
    answers = {
        "size": {"status": 200, "version": "size:1", "answer": {"choices": [{"text": "long"}]}},
        "nobody": {"status": 404, "error": {"message": "there is no nobody"}},
    }
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2, "cached_tokens": 0}
    server.will_say(200, {"answers": answers, "usage": usage}, content_type="application/json")
    code, out, _ = run()
    assert code == 1
    assert [line.split(maxsplit=2) for line in out.splitlines()] == [
        ["MODEL", "VERSION", "ANSWER"],
        ["size", "size:1", "'long'"],
        ["nobody", "-", "404: there is no nobody"],
    ]
