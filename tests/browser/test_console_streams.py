"""How the console reads streams and refusals, in the browser that runs it."""

import json

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import Visitor
from tests.browser.scripted_server import REFUSALS, Scripted, run

STREAM = (
    ": hello\r\nretry: 20\r\n\r\nid: 7\r\ndata: one\r\n\r\n"
    "id: 8\r\nevent: odd\r\ndata: two\r\ndata:  lines\r\n\r\n"
    "id: 9\n: alive\n\ndata\n\ndata:last\n\n"
)
MESSAGES = [
    {"id": "7", "event": "message", "data": "one"},
    {"id": "8", "event": "odd", "data": "two\n lines"},
    {"id": "9", "event": "message", "data": ""},
    {"id": "9", "event": "message", "data": "last"},
]


def test_messages_are_the_same_however_they_are_cut(page: Page) -> None:
    code = """
      const found = new Set();
      for (let cut = 0; cut <= given.length; cut += 1) {
        const parser = new m.EventParser();
        const parts = [given.slice(0, cut), given.slice(cut)];
        const messages = parts.flatMap((part) => parser.push(part));
        found.add(JSON.stringify([messages, parser.lastId, parser.retryMs]));
      }
      return [...found];
    """
    found = run(page, "sse", code, STREAM)
    assert [json.loads(each) for each in found] == [[MESSAGES, "9", 20]]


def test_a_stream_goes_on_after_the_last_whole_message(
    page: Page, scripted: tuple[str, Scripted]
) -> None:
    code = """
      sessionStorage.setItem("adaptry.key", "secret");
      const seen = [], states = [], end = new AbortController();
      const onMessage = ({ data }) => { seen.push(data); if (data === "c") end.abort(); };
      const onState = (state) => states.push(state);
      await m.follow("stream", { signal: end.signal, onMessage, onState });
      return [seen, states];
    """
    seen, states = run(page, "sse", code)
    assert seen == ["a", "b", "c"]
    assert states == ["live", "waiting", "live"]
    first, second = scripted[1].asked
    assert "last-event-id" not in first
    assert second["last-event-id"] == "2", "3 was begun and did not arrive"
    assert first["authorization"] == second["authorization"] == "Bearer secret"


def test_a_refused_stream_is_not_requested_again(page: Page, visitor: Visitor) -> None:
    code = """
      const states = [];
      const onState = (state, problem) => states.push([state, problem?.status]);
      const { signal } = new AbortController();
      await m.follow("nothing", { signal, onMessage: () => {}, onState });
      return states;
    """
    assert run(page, "sse", code) == [["refused", 404]]
    visitor.expects_a_refusal()


@pytest.mark.parametrize("shape", REFUSALS)
def test_a_refusal_is_told_in_the_servers_words(page: Page, visitor: Visitor, shape: str) -> None:
    code = """
      const error = await m.get(`refuse/${given}`).catch((thrown) => thrown);
      return [error.status, error.code, error.message, error.retryAfterSeconds];
    """
    assert run(page, "api", code, shape) == REFUSALS[shape][1]
    visitor.expects_a_refusal()


def test_an_unreachable_server_is_reported(page: Page, visitor: Visitor) -> None:
    code = """
      const error = await m.get("http://127.0.0.1:1/").catch((thrown) => thrown);
      return [error.status, error.code];
    """
    assert run(page, "api", code) == [0, "unreachable"]
    visitor.expects_a_refusal()


def test_a_key_that_is_no_longer_used_is_not_refused(page: Page, visitor: Visitor) -> None:
    """What was asked before the sign-in would open its panel again."""
    code = """
      const refused = m.get("refuse/key").catch((thrown) => thrown);
      m.key.set("another");
      return (await refused).name;
    """
    assert run(page, "api", code) == "AbortError"
    visitor.expects_a_refusal()


def test_a_wait_leaves_nothing_behind(page: Page) -> None:
    code = """
      let listeners = 0;
      const signal = new AbortController().signal;
      const [add, remove] = [signal.addEventListener, signal.removeEventListener];
      signal.addEventListener = (...all) => ((listeners += 1), add.apply(signal, all));
      signal.removeEventListener = (...all) => ((listeners -= 1), remove.apply(signal, all));
      await m.pause(1, signal);
      return listeners;
    """
    assert run(page, "sse", code) == 0
