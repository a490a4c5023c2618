"""`adaptry webhook …` against a real server and a real receiver."""

import asyncio
import json
import re

import pytest

from tests.api.conftest import Run
from tests.support.servers.webhook_receiver import Answer, Receiver


async def test_a_webhook_is_added_tried_listed_and_removed(run: Run, receiver: Receiver) -> None:
    code, out, _ = await run(
        "webhook", "add", receiver.url, "--kind", "alias.moved", "--adapter", "bot"
    )
    assert code == 0
    added = re.fullmatch(r"webhook (\d+)  secret (whsec_\S+)\n", out)
    assert added is not None
    number, secret = added.groups()
    code, out, _ = await run("webhook", "test", number)
    assert (code, out) == (0, "delivered, HTTP 204\n")
    assert receiver.received[0].verified(secret)["type"] == "webhook.test"
    receiver.answers.append(Answer(500, body=b"out of order"))
    code, out, err = await run("webhook", "test", number)
    assert (code, out) == (1, "")
    assert err == "adaptry: not delivered: HTTP 500: out of order\n"
    _, out, _ = await run("webhook", "list")
    assert out.splitlines()[1].split() == [
        number,
        receiver.url,
        "alias.moved",
        "bot",
        "0",
        "ok",
    ]
    _, out, _ = await run("webhook", "deliveries", number)
    assert [line.split()[1:4] for line in out.splitlines()] == [
        ["KIND", "STATE", "ATTEMPTS"],
        ["webhook.test", "failed", "1"],
        ["webhook.test", "delivered", "1"],
    ]
    assert out.splitlines()[1].endswith("HTTP 500: out of order")
    _, out, _ = await run("webhook", "deliveries", number, "--state", "delivered", "--limit", "1")
    assert len(out.splitlines()) == 2
    assert await run("webhook", "remove", number) == (0, f"webhook {number} is removed\n", "")
    code, _, err = await run("webhook", "remove", number)
    hint = "`adaptry webhook list` shows all webhooks"
    said = f"adaptry: there is no webhook {number} [unknown_webhook]: {hint}\n"
    assert (code, err) == (1, said)


async def test_a_disabled_webhook_says_why_and_is_enabled_again(
    run: Run, receiver: Receiver
) -> None:
    receiver.otherwise = Answer(410)
    await run("webhook", "add", receiver.url, "--kind", "webhook.added")
    async with asyncio.timeout(20):
        while "disabled" not in (listed := (await run("webhook", "list"))[1]):
            await asyncio.sleep(0.05)
    assert listed.rstrip().endswith("disabled: the endpoint answered 410 Gone")
    receiver.otherwise = Answer()
    assert await run("webhook", "enable", "1") == (0, "webhook 1 is enabled\n", "")
    await receiver.has(2)
    assert "disabled" not in (await run("webhook", "list"))[1]


async def test_a_secret_is_replaced(run: Run, receiver: Receiver) -> None:
    await run("webhook", "add", receiver.url)
    code, out, _ = await run("webhook", "rotate", "1", "--keep-hours", "0")
    assert code == 0
    found = re.match(r"webhook 1  secret (whsec_\S+)  \(the old one until ", out)
    assert found is not None
    await run("webhook", "test", "1")
    receiver.received[0].verified(found[1])


async def test_programs_get_what_the_server_said(run: Run, receiver: Receiver) -> None:
    added = json.loads(
        (await run("webhook", "add", receiver.url, "--description", "x", "--json"))[1]
    )
    assert added["description"] == "x"
    listed = json.loads((await run("webhook", "list", "--json"))[1])
    assert listed == [{key: value for key, value in added.items() if key != "secret"}]
    tried = json.loads((await run("webhook", "test", "1", "--json"))[1])
    assert json.loads((await run("webhook", "deliveries", "1", "--json"))[1]) == [tried]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["add", "http://10.0.0.1/"], 1, "[address_not_allowed]"),
        (["add", "nonsense"], 1, "[invalid_url]"),
        (["add", "http://127.0.0.1/", "--kind", "eaten"], 1, "kinds"),
        (["test", "9"], 1, "[unknown_webhook]"),
        (["test", "x"], 2, "ID"),
        (["deliveries", "1", "--state", "eaten"], 2, "--state"),
    ],
)
async def test_a_mistake_is_one_line(
    run: Run, arguments: list[str], code: int, message: str
) -> None:
    exit_code, out, err = await run("webhook", *arguments)
    assert (exit_code, out, err.count("\n")) == (code, "", 1)
    assert message in err
