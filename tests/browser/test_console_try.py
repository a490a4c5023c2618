"""The page for prompts, over answers that a server scripts: what came, and what didn't."""

import json

from playwright.sync_api import Page, expect

from tests.browser.conftest import Visitor
from tests.browser.scripted_server import Scripted

ADDRESS = "#/try?a=size&prompt=forest%3D"


def chunk(text: str) -> str:
    return f"data: {json.dumps({'choices': [{'text': text}]})}\n\n"


DONE = "data: [DONE]\n\n"


def send(visitor: Visitor) -> Page:
    page = visitor.open(ADDRESS)
    page.get_by_role("button", name="Send").click()
    return page


def test_a_prompt_without_the_invocation_says_who_answered(
    visitor: Visitor, scripted: tuple[str, Scripted]
) -> None:
    headers = {
        "x-adaptry-version": "size:1",
        "x-adaptry-invocation": "missing",
        "x-adaptry-deprecation": "use%20size%3A2",
    }
    scripted[1].answers = [
        (chunk("lo") + chunk("ng") + DONE, headers),
        (chunk("long") + DONE, {**headers, "x-adaptry-invocation": "found"}),
    ]
    page = send(visitor)
    side = page.get_by_role("region", name="Side A")
    expect(side.get_by_label("Answer")).to_have_text("long")
    expect(side).to_contain_text("this is the base model's answer")
    expect(side).to_contain_text("use size:2")
    page.get_by_role("button", name="Send").click()
    expect(side).to_contain_text("found")
    expect(side).not_to_contain_text("base model's answer")


def test_what_was_not_asked_is_no_blank_box(
    visitor: Visitor, scripted: tuple[str, Scripted]
) -> None:
    shown = "pre => getComputedStyle(pre, '::before').content"
    page = visitor.open(ADDRESS)
    answer = page.get_by_role("region", name="Answer of A")
    assert answer.evaluate(shown) == '"No prompt was sent yet."'
    scripted[1].answers = [(chunk("long") + DONE, {"x-adaptry-version": "size:1"})]
    page.get_by_role("button", name="Send").click()
    expect(answer).to_have_text("long")
    assert answer.evaluate(shown) == "none"
    other = page.get_by_role("region", name="Answer of B")
    assert other.evaluate(shown) == '"No reference was chosen for this side."'


def test_an_answer_that_was_cut_off_is_no_whole_answer(
    visitor: Visitor, scripted: tuple[str, Scripted]
) -> None:
    error = {"error": {"message": "the engine is lost", "code": "engine_lost"}}
    scripted[1].answers = [
        (chunk("HEL"), {}),
        (f"{chunk('HEL')}data: {json.dumps(error)}\n\n{DONE}", {}),
    ]
    page = send(visitor)
    side = page.get_by_role("region", name="Side A")
    expect(side.get_by_role("alert")).to_have_text("the answer was cut off stream_cut_off")
    expect(side.get_by_label("Answer")).to_have_text("HEL")
    expect(side).not_to_contain_text("Total")
    page.get_by_role("button", name="Send").click()
    expect(side.get_by_role("alert")).to_have_text("the engine is lost engine_lost")
