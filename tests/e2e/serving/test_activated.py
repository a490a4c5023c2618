"""Activated adapters over HTTP: what PEFT answers with them, token for token, in every mode that
the CPU build has: chunked prompts, the prefix cache, speculation, several completions.
"""

import json
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
import pytest

from adaptry.client import Client
from tests.support.adapters.activated import (
    BASE,
    INVOCATIONS,
    Reference,
    as_plain,
    save_activated,
)
from tests.support.servers.adaptry_serve_with_keys import create_root_key
from tests.support.vllm.tiny_engines import ServedBase

pytestmark = [pytest.mark.servers("bases")]

BLOCK = 32  # the least that the CPU build takes
TOKENS = 6
SPECULATION = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 4}
ARGUMENTS = (
    *("--max-model-len", "512", "--max-num-batched-tokens", "96", "--max-num-seqs", "16"),
    *("--block-size", str(BLOCK), "--kv-cache-memory-bytes", str(3 * 2**20)),
    *("--max-loras", "3", "--max-lora-rank", "8", "--served-model-name", "base"),
    *("--speculative-config", json.dumps(SPECULATION), "--enforce-eager"),
)


@dataclass
class Served:
    server: ServedBase
    reference: Reference

    def ask(
        self, model: str, prompt: Sequence[int], headers: dict[str, str], **options: Any
    ) -> httpx.Response:
        body = {"model": model, "prompt": list(prompt), "temperature": 0, "max_tokens": TOKENS}
        more = {"ignore_eos": True, "return_token_ids": True, **options}
        return self.server.client.post("/v1/completions", json=body | more, headers=headers)

    def post(
        self,
        model: str,
        prompt: Sequence[int],
        headers: dict[str, str] | None = None,
        **options: Any,
    ) -> httpx.Response:
        response = self.ask(model, prompt, headers or {}, **options)
        assert response.status_code == 200, response.text
        return response

    def tokens(self, model: str, prompt: Sequence[int], **options: Any) -> list[int]:
        found: list[int] = self.post(model, prompt, **options).json()["choices"][0]["token_ids"]
        return found

    def cached(self, model: str, prompt: Sequence[int], **options: Any) -> int:
        usage = self.post(model, prompt, **options).json()["usage"]
        return int((usage["prompt_tokens_details"] or {}).get("cached_tokens") or 0)

    def versions(self, adapter: str) -> int:
        found = self.server.client.get(f"/api/v1/adapters/{adapter}/versions").json()["items"]
        return max(int(version["number"]) for version in found)

    def is_right(self, model: str, prompt: Sequence[int], **options: Any) -> bool:
        right = self.reference.tokens(model, prompt, TOKENS)
        return self.tokens(model, prompt, **options) == right


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("activated")
    sources = folder / "adapters"
    adapters = {
        name: save_activated(sources / name, tokens, seed)
        for seed, (name, tokens) in enumerate(INVOCATIONS.items())
    }
    adapters["plain-judge"] = as_plain(adapters["judge"], sources / "plain-judge")
    server = ServedBase(folder, BASE, sources, {}, require_keys="true")
    server.arguments = ARGUMENTS
    root = create_root_key(folder)
    server.client.headers["authorization"] = f"Bearer {root}"
    try:
        server.client.timeout = httpx.Timeout(240)
        server.start()
        for name, source in adapters.items():
            assert server.add(name, source) is None
        yield Served(server, Reference(adapters))
    finally:
        server.stop()
        server.client.close()


def words(count: int, seed: int) -> list[int]:
    """A prompt without any invocation."""
    draw = random.Random(seed)
    return [draw.randrange(50, 250) for _ in range(count)]


def test_tokens_are_pefts(served: Served) -> None:
    """Alone, in order: one after the other finds the blocks of those before."""
    prompt = words(200, 1)
    for model in ("base", *INVOCATIONS, "plain-judge", *reversed(INVOCATIONS)):
        invoked = [*prompt, *INVOCATIONS.get(model, []), *words(3, 2)]
        assert served.is_right(model, invoked), model
    answers = {
        model: tuple(served.tokens(model, [*prompt, 40, 41, *words(3, 2)]))
        for model in ("base", "judge", "guard", "plain-judge")
    }
    assert len(set(answers.values())) == 4, "each has an effect of its own"


def test_what_is_before_the_invocation_is_shared_and_nothing_else(served: Served) -> None:
    prompt = words(200, 3)
    whole_blocks = len(prompt) // BLOCK * BLOCK
    assert served.cached("base", prompt) == 0
    for model in INVOCATIONS:
        invoked = [*prompt, *INVOCATIONS[model], *words(40, 4)]
        assert served.cached(model, invoked) == whole_blocks, model
    judged = [*prompt, *INVOCATIONS["judge"], *words(40, 4)]
    assert served.cached("guard", judged) == len(judged) // BLOCK * BLOCK, "its own, seen before"
    assert served.cached("plain-judge", judged) == 0
    assert served.cached("base", judged) == whole_blocks, "not what an adapter has computed"
    assert served.cached("router", [*prompt, 42, 50], cache_salt="another tenant") == 0
    shared = served.server.total("adaptry_shared_prefix_tokens_total", adapter="router")
    assert shared >= whole_blocks


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_without_the_invocation_is_the_base_models(served: Served, stream: bool) -> None:
    prompt = [*words(50, 5), 40]  # the invocation begins, and does not end
    found = served.post("judge", [*prompt, 41], stream=stream)
    missing = served.post("judge", prompt, stream=stream)
    assert found.headers["x-adaptry-invocation"] == "found"
    assert missing.headers["x-adaptry-invocation"] == "missing"
    assert missing.headers["x-adaptry-version"] == "judge:1"
    assert "x-adaptry-invocation" not in served.post("plain-judge", prompt).headers
    if not stream:
        right = served.reference.tokens("base", prompt, TOKENS)
        assert missing.json()["choices"][0]["token_ids"] == right


def test_the_last_invocation_counts(served: Served) -> None:
    """Each turn of a conversation has one, and one that ends in the next block of the cache."""
    said = words(BLOCK - 1, 6)
    for model in ("judge", "title", "guard", "judge"):
        said = [*said, *INVOCATIONS[model]]
        answer = served.tokens(model, said)
        assert answer == served.reference.tokens(model, said, TOKENS), (model, len(said))
        said = [*said, *answer, *words(BLOCK - len(answer) - len(INVOCATIONS[model]) + 1, 7)]


def test_several_completions_and_log_probabilities_of_the_prompt(served: Served) -> None:
    prompt = [*words(70, 8), *INVOCATIONS["judge"], *words(9, 9)]
    options: dict[str, Any] = {"n": 2, "temperature": 0.01, "prompt_logprobs": 0}
    choices = served.post("judge", prompt, **options).json()["choices"]
    right = served.reference.tokens("judge", prompt, TOKENS)
    assert [choice["token_ids"] for choice in choices] == [right] * 2
    found = [next(iter(each.values()))["logprob"] for each in choices[0]["prompt_logprobs"][1:]]
    assert found == pytest.approx(served.reference.prompt_logprobs("judge", prompt), abs=2e-3)
    base = served.reference.prompt_logprobs("base", prompt)
    assert found[:69] == pytest.approx(base[:69], abs=2e-3)
    assert found != pytest.approx(base, abs=2e-3)


def test_preempted_requests_are_computed_again_as_they_were(served: Served) -> None:
    """More at once than there are blocks: vLLM takes some requests' and computes those again.

    What is computed again is the prompt with the answer so far, in chunks, where an answer may say
    the invocation: it is the prompt's that counts. Two are made to say it, which is drafted too.
    """
    length, count = 4 * BLOCK - 12, 24  # an answer needs a fifth block; there are 23
    models = ("base", "judge", "plain-judge", "judge")  # with the router as many as there are slots
    asked = [
        (model, [*words(length, 60 + order), *INVOCATIONS.get(model, []), 60])
        for order, model in enumerate(models)
    ]
    said = words(length, 70)
    saying = [("router", [*said, 60]), ("router", [*said, *INVOCATIONS["router"], 60])]
    says_it: dict[str, Any] = {"allowed_token_ids": INVOCATIONS["router"], "logprobs": 0}

    def answer(of: tuple[str, list[int]], salt: str) -> tuple[list[int], list[float]]:
        options = says_it if of in saying else {}
        response = served.post(*of, cache_salt=salt, max_tokens=count, **options)
        (choice,) = response.json()["choices"]
        return choice["token_ids"], (choice["logprobs"] or {}).get("token_logprobs", [])

    preempted, drafted = "vllm:num_preemptions_total", "vllm:spec_decode_num_draft_tokens_total"
    total = served.server.total
    before = total(preempted)
    alone = [answer(each, "alone") for each in saying]
    assert total(preempted) == before, "there is room for each by itself"
    assert total(drafted) > 0
    assert alone[0][1] != pytest.approx(alone[1][1], abs=2e-2), "one is the base model's"
    for turn in (1, -1):  # vLLM preempts who came last
        for attempt in range(5):  # on a busy machine they may come one after the other
            order = [*asked, *saying][::turn]
            with ThreadPoolExecutor(len(order)) as pool:
                found = list(pool.map(partial(answer, salt=f"pressed {turn} {attempt}"), order))
            for (model, prompt), (tokens, logprobs) in zip(order, found, strict=True):
                if (model, prompt) in saying:
                    right, certain = alone[saying.index((model, prompt))]
                    assert (tokens, set(tokens)) == (right, set(INVOCATIONS["router"]))
                    assert logprobs == pytest.approx(certain, abs=2e-3), len(prompt)
                else:
                    assert tokens == served.reference.tokens(model, prompt, count), model
            if total(preempted) > before:
                break
        assert total(preempted) > before
        before = total(preempted)


def test_a_fan_out_through_fewer_slots_beside_another(served: Served) -> None:
    said = words(160, 10)
    models: list[dict[str, Any]] = [
        {"model": model, "suffix": [*INVOCATIONS.get(model, [44]), 60], "max_tokens": TOKENS}
        for model in ("base", "plain-judge", *INVOCATIONS)
    ]
    options = {"temperature": 0, "ignore_eos": True, "return_token_ids": True}
    body: dict[str, Any] = {"prompt": said, "models": [*models, "no-such"], **options}

    def fan_out(order: int) -> dict[str, Any]:
        turned = {**body, "models": body["models"][::order]}
        response = served.server.client.post("/v1/fanout", json=turned)
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(fan_out, (1, -1, 1, -1)))
    for found in answers:
        assert found["answers"].pop("no-such")["status"] == 404
        for model in models:
            answer = found["answers"][model["model"]]["answer"]
            right = served.reference.tokens(model["model"], [*said, *model["suffix"]], TOKENS)
            assert answer["choices"][0]["token_ids"] == right, model
        assert found["usage"]["cached_tokens"] >= 160 * len(INVOCATIONS)


def test_a_fan_out_over_a_conversation_not_read_before_computes_it_once(served: Served) -> None:
    """By the first of them, in as many steps as it takes: the others find its blocks."""
    said = words(3 * BLOCK, 60)
    asked = [{"model": model, "suffix": [*INVOCATIONS[model], 60]} for model in INVOCATIONS]
    body = {"prompt": said, "models": [{"model": "base", "suffix": [60]}, *asked], "max_tokens": 1}
    response = served.server.client.post("/v1/fanout", json=body)
    assert response.status_code == 200, response.text
    answers = [each["answer"] for each in response.json()["answers"].values()]
    details = [answer["usage"]["prompt_tokens_details"] or {} for answer in answers]
    cached = sorted(each.get("cached_tokens") or 0 for each in details)
    assert cached == [0, *[3 * BLOCK] * len(INVOCATIONS)]


def test_a_split_draws_versions_and_shares_what_is_the_base_models(served: Served) -> None:
    """Two versions with one invocation: each answers as itself, over one computed conversation."""
    client = served.server.client
    for number in range(2):
        source = served.server.sources / f"split-{number}"
        save_activated(source, INVOCATIONS["judge"], 50 + number)
        assert served.server.add("split", source) is None
        served.reference.replace(f"split:{number + 1}", source)
    alias = {"weights": [{"version": 1, "weight": 1}, {"version": 2, "weight": 1}]}
    moved = client.put("/api/v1/adapters/split/aliases/default", json=alias)
    assert moved.status_code == 200, moved.text
    said = words(3 * BLOCK, 20)
    assert served.cached("base", said) == 0
    invoked = [*said, *INVOCATIONS["judge"], *words(3, 21)]
    drawn = set()
    for user in range(12):
        answer = served.post("split", invoked, {"x-adaptry-user": f"user-{user}"})
        version = answer.headers["x-adaptry-version"]
        drawn.add(version)
        right = served.reference.tokens(version, invoked, TOKENS)
        assert answer.json()["choices"][0]["token_ids"] == right, version
        assert answer.headers["x-adaptry-invocation"] == "found"
        cached = answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
        assert cached == 3 * BLOCK
        again = served.post("split", invoked, {"x-adaptry-user": f"user-{user}"})
        assert again.headers["x-adaptry-version"] == version
    assert drawn == {"split:1", "split:2"}


def test_tenants_share_nothing_and_each_sees_its_own(served: Served) -> None:
    client, keys = served.server.client, {}
    for tenant in ("acme", "other"):
        assert client.post("/api/v1/tenants", json={"name": tenant}).status_code == 201
        made = client.post("/api/v1/keys", json={"name": f"{tenant}~app", "scopes": ["infer"]})
        assert made.status_code == 201, made.text
        keys[tenant] = {"authorization": f"Bearer {made.json()['key']}"}
    source = served.server.sources / "owned"
    save_activated(source, INVOCATIONS["guard"], 70)
    assert served.server.add("acme~guard", source) is None
    served.reference.replace("acme~guard", source)
    granted = client.put("/api/v1/adapters/judge/grants/acme")
    assert granted.status_code in (200, 201, 204), granted.text

    said = words(3 * BLOCK, 30)
    invoked = [*said, *INVOCATIONS["guard"], *words(3, 31)]

    def ask(tenant: str, model: str, prompt: Sequence[int]) -> tuple[list[int], int]:
        body = served.post(model, prompt, keys[tenant]).json()
        return body["choices"][0]["token_ids"], body["usage"]["prompt_tokens_details"][
            "cached_tokens"
        ]

    assert served.cached("base", said) == 0
    assert ask("acme", "base", said)[1] == 0, "the platform's blocks are not a tenant's"
    own = served.reference.tokens("acme~guard", invoked, TOKENS)
    assert ask("acme", "acme~guard", invoked) == (own, 3 * BLOCK)
    judged = served.reference.tokens("judge", invoked, TOKENS)
    assert ask("acme", "judge", invoked) == (judged, 3 * BLOCK), "granted, over its own blocks"
    assert ask("other", "base", said)[1] == 0
    for model in ("acme~guard", "judge"):
        hidden = served.ask(model, invoked, keys["other"])
        assert (hidden.status_code, hidden.json()["error"]["code"]) == (404, "model_not_found")


def test_the_client_gets_a_fan_outs_stream(served: Served) -> None:
    said = words(2 * BLOCK, 40)
    asked = [{"model": model, "suffix": [*INVOCATIONS[model], 60]} for model in ("judge", "title")]
    options = {"ignore_eos": True, "return_token_ids": True}
    found: dict[str, list[int]] = {"judge": [], "title": []}
    key = served.server.client.headers["authorization"].removeprefix("Bearer ")
    with Client(served.server.url(), api_key=key) as client:
        events = client.fanout_stream(
            [*asked, "nobody"], prompt=said, max_tokens=TOKENS, temperature=0, options=options
        )
        for event in events:
            if event.chunk:
                found[event.name] += event.chunk["choices"][0]["token_ids"]
            elif event.name == "nobody":
                assert (event.status, (event.error or {})["code"]) == (404, "model_not_found")
            else:
                assert (event.version, event.invocation) == (f"{event.name}:1", "found")
    for each in asked:
        prompt = [*said, *each["suffix"]]
        model = str(each["model"])
        assert found[model] == served.reference.tokens(model, prompt, TOKENS)


def test_it_is_shown_for_what_it_is(served: Served) -> None:
    client = served.server.client
    version = client.get("/api/v1/adapters/title/versions/1").json()
    assert version["kind"] == "activated"
    assert version["inspection"]["invocation_tokens"] == INVOCATIONS["title"]
    assert client.get("/api/v1/adapters/plain-judge/versions/1").json()["kind"] == "lora"
    why = client.get("/api/v1/cache/why/title").json()["summary"]
    assert "acts from its invocation on (tokens 43, 40, 43)" in why


def test_conversations_adapters_and_promotions_leave_no_stale_block(
    served: Served, is_long: bool
) -> None:
    """Turns of conversations that share beginnings, by any model, while a name gets new weights.

    Each is compared with PEFT, which has no cache.
    """
    draw, answered = random.Random(11), [words(40, 12)]
    for turn in range(60 if is_long else 10):
        if turn % 5 == 4:  # other weights under a name that has answered
            source = served.server.sources / f"promoted-{turn}"
            save_activated(source, INVOCATIONS["router"], 100 + turn)
            assert served.server.add("router", source) is None
            number = served.versions("router")
            alias = "/api/v1/adapters/router/aliases/default"
            moved = served.server.client.put(alias, json={"version": number})
            assert moved.status_code == 200, moved.text
            served.reference.replace("router", source)
        model = draw.choice(["base", "plain-judge", *INVOCATIONS])
        said = draw.choice(answered)
        said = said[: draw.randrange(BLOCK, len(said) + 1)][-380:] + draw.choices(
            range(40, 46), k=9
        )
        prompt = said + draw.choice([INVOCATIONS.get(model, []), []])
        salt = {} if draw.random() < 0.7 else {"cache_salt": "other"}
        answer = served.tokens(model, prompt, **salt)
        assert answer == served.reference.tokens(model, prompt, TOKENS), (turn, model, prompt)
        answered.append(prompt + answer)
