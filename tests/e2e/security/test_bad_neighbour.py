"""A bad neighbour on the real engine: its work is bounded, and no prompt of it is in the log.

What others notice of it, in times, is measured by `python -m benchmarks.neighbour`.
"""

import logging
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from benchmarks.neighbour.attacks import MARKER, MODEL, REFUSED

pytestmark = [pytest.mark.engine]

MAX_LOG_BYTES = 4096
SETTLE_SECONDS = 20.0


@pytest.fixture
def log() -> Iterator[list[str]]:
    lines: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(logging.Formatter().format(record))

    handler = Handler()
    loggers = [logging.getLogger(name) for name in ("", "vllm", "uvicorn", "uvicorn.error")]
    for each in loggers:
        each.addHandler(handler)
    yield lines
    for each in loggers:
        each.removeHandler(handler)


def tokenizer_threads(server: Any) -> Any:
    return server.server.engine.renderer._executor.submit.__self__


@pytest.mark.parametrize("shows_stacks", [False, True], ids=["normal", "log-error-stack"])
@pytest.mark.parametrize("path", sorted({path for path, _ in REFUSED}))
def test_a_refused_body_is_in_no_log(
    server: Any, log: list[str], path: str, shows_stacks: bool
) -> None:
    arguments = server.server.app.state.args
    assert not arguments.log_error_stack
    arguments.log_error_stack = shows_stacks
    try:
        for _, body in (each for each in REFUSED if each[0] == path):
            answer = server.client.post(path, json=body)
            assert 400 <= answer.status_code < 500, (body, answer.text[:500])
            assert len(answer.content) < 20_000
            assert_dialect(path, answer)
    finally:
        arguments.log_error_stack = False
    written = "\n".join(log)
    assert MARKER not in written
    assert len(written) < MAX_LOG_BYTES, written


WRONG = [
    f'{{"model": "{MODEL}", "prompt": {{"x": "{MARKER}"}}, "messages": [{{"role": "{MARKER}"}}], '
    f'"temperature": "{MARKER}", "max_tokens": "{MARKER}", '
    f'"input": {{"x": "{MARKER}"}}, "tokens": "{MARKER}", "lora_name": ["{MARKER}"]}}',
    f'{{"model": "{MODEL}", "prompt": "{MARKER}',
    f'["{MARKER}"]',
    f"{MARKER}",
]


@pytest.mark.parametrize("shows_stacks", [False, True], ids=["normal", "log-error-stack"])
def test_no_route_logs_what_it_refuses(server: Any, log: list[str], shows_stacks: bool) -> None:
    app = server.server.app
    paths = {
        route.path
        for route in app.routes
        if isinstance(route, APIRoute) and "POST" in route.methods and route.body_field is not None
    }
    paths = {path for path in paths if "{" not in path} | {"/generate", "/invocations"}
    assert len(paths) > 20
    app.state.args.log_error_stack = shows_stacks
    refused = 0
    try:
        for path in sorted(paths):
            for body in WRONG:
                for kind in ("application/json", "text/plain"):
                    headers = {"content-type": kind}
                    answer = server.client.post(path, content=body, headers=headers)
                    allowed = answer.status_code < 500 or answer.status_code == 501
                    assert allowed, (path, body, answer.text[:500])
                    refused += answer.status_code >= 400
                    assert len(answer.content) < 20_000
    finally:
        app.state.args.log_error_stack = False
    written = "\n".join(log)
    assert refused > 0.9 * len(paths) * len(WRONG) * 2, "a few take what others refuse"
    assert MARKER not in written
    assert len(written) < 20 * MAX_LOG_BYTES, written[:2000]


def assert_dialect(path: str, answer: httpx.Response) -> None:
    content = answer.json()
    if path.startswith("/v1/messages"):
        assert content["type"] == "error", content
    assert content["error"]["message"], content


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tokenize", {"prompt": "x" * 2**21}),
        ("/tokenize", {"messages": [{"role": "user", "content": "x" * 2**21}]}),
        ("/detokenize", {"tokens": [5] * 200_000}),
        ("/v1/completions", {"prompt": [5] * 1_000_000}),
        ("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": "x" * 2**21}]}),
    ],
)
def test_what_cannot_fit_is_refused_before_it_is_tokenized(
    server: Any, monkeypatch: pytest.MonkeyPatch, path: str, body: dict[str, Any]
) -> None:
    lengths: list[int] = []
    threads = tokenizer_threads(server)
    submit = threads.submit

    def recording(fn: Any, /, *args: Any, **options: Any) -> Any:
        given = [*args, *getattr(fn, "args", ())]
        texts = [each.get("prompt", "") if isinstance(each, dict) else each for each in given]
        lengths.extend(len(each) for each in texts if isinstance(each, str | list))
        return submit(fn, *args, **options)

    monkeypatch.setattr(server.server.engine.renderer._executor, "submit", recording)
    answer = server.client.post(path, json={"model": "tiny-text-tools", **body})
    assert answer.status_code in (400, 413), answer.text[:500]
    assert max(lengths, default=0) < 2**17


def test_who_leaves_frees_the_threads(server: Any) -> None:
    threads = tokenizer_threads(server)
    body = {"model": "tiny-text-tools", "prompt": ["x" * 200] * 1000, "max_tokens": 1}
    for _ in range(3):
        with pytest.raises(httpx.TimeoutException):
            server.client.post("/v1/completions", json=body, timeout=0.05)
    ends = time.monotonic() + SETTLE_SECONDS
    while threads.running or threads.waiting:
        assert time.monotonic() < ends, (threads.running, threads.waiting)
        time.sleep(0.05)


@pytest.mark.parametrize(
    "wanted",
    [
        {"regex": "(a{1,900}){1,900}"},
        {"choice": [f"word {n}" for n in range(50_000)]},
        {"json": {"enum": [f"value {n}" for n in range(50_000)]}},
        {"json": {"$ref": "#"}},
    ],
    ids=["regex", "choices", "schema", "reference"],
)
@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_a_grammar_that_takes_too_long_is_refused(
    server: Any, path: str, wanted: dict[str, Any]
) -> None:
    prompt = {"messages": [{"role": "user", "content": "x"}]} if "chat" in path else {"prompt": "x"}
    body = {"model": "tiny-text-tools", **prompt, "structured_outputs": wanted, "max_tokens": 4}
    answer = server.client.post(path, json=body)
    code = answer.json()["error"]["code"]
    assert (answer.status_code, code) == (400, "grammar_too_complex"), answer.text[:500]


def test_the_usual_grammar_is_followed(server: Any) -> None:
    answer = server.complete("upper", "x", structured_outputs={"choice": ["yes", "no"]})
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["text"] in ("yes", "no")
