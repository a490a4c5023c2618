"""TGI's and LoRAX's bodies and answers, over a route that answers as vLLM's does."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from engine.tgi.middleware import GenerateApi

LOGPROBS = {"tokens": ["HE", "LLO", "</s>"], "token_logprobs": [-0.5, -0.25, -0.1]}
CHOICE: dict[str, Any] = {
    "text": "HELLO",
    "finish_reason": "stop",
    "stop_reason": None,
    "token_ids": [5, 6, 2],
    "prompt_token_ids": [7, 8],
    "logprobs": LOGPROBS,
}
HEADERS = {"x-adaptry-version": "upper:1"}


class Vllm:
    """`/v1/completions` of an engine that says what it is told to."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.choices: list[dict[str, Any]] = [CHOICE]
        self.events: list[bytes] = []
        self.error: tuple[int, dict[str, Any]] | None = None
        self.left = asyncio.Event()

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append(body)
        if body["prompt"] == "wait":
            while not await request.is_disconnected():
                await asyncio.sleep(0.01)
            self.left.set()
            return JSONResponse(None)  # as vLLM's `with_cancellation`
        if self.error is not None:
            status, error = self.error
            return JSONResponse({"error": error}, status, {"retry-after": "3"})
        if body["stream"]:
            media_type = "text/event-stream; charset=utf-8"
            return StreamingResponse(self.stream(), media_type=media_type, headers=HEADERS)
        usage = {"prompt_tokens": 2, "completion_tokens": 3}
        return JSONResponse({"choices": self.choices, "usage": usage}, headers=HEADERS)

    async def stream(self) -> AsyncIterator[bytes]:
        for event in self.events:
            yield event

    async def own(self, request: Request) -> Response:
        return JSONResponse({"own": await request.json()})


@pytest.fixture
def vllm() -> Vllm:
    return Vllm()


@pytest.fixture
async def client(vllm: Vllm) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(application(vllm)), base_url="http://test"
    ) as found:
        yield found


def application(vllm: Vllm, *, has_texts: bool = True) -> Starlette:
    def texts(ids: Any) -> list[str]:
        return [f"<{number}>" for number in ids]

    return Starlette(
        routes=[
            Route("/v1/completions", vllm.complete, methods=["POST"]),
            Route("/generate", vllm.own, methods=["POST"]),
        ],
        middleware=[
            Middleware(
                GenerateApi,
                base_model="base",
                max_body_bytes=2000,
                texts=texts if has_texts else None,
            )
        ],
    )


async def generate(
    client: httpx.AsyncClient, path: str = "/generate", /, **parameters: Any
) -> httpx.Response:
    return await client.post(path, json={"inputs": "hello=", "parameters": parameters})


async def test_a_body_becomes_a_completion_and_its_answer_an_answer(
    client: httpx.AsyncClient, vllm: Vllm
) -> None:
    answer = await generate(client, adapter_id="upper@prod", max_new_tokens=4, stop=["x"])
    assert (answer.status_code, answer.json()) == (200, {"generated_text": "HELLO"})
    assert answer.headers["x-adaptry-version"] == "upper:1"
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert vllm.asked == [
        {
            "model": "upper@prod",
            "prompt": "hello=",
            "max_tokens": 4,
            "temperature": 0.0,
            "include_stop_str_in_output": True,
            "stream": False,
            "stop": ["x"],
        }
    ]
    compatible = await client.post("/", json={"inputs": "hello="})
    assert compatible.json() == [{"generated_text": "HELLO"}]
    assert (vllm.asked[1]["model"], vllm.asked[1]["max_tokens"]) == ("base", None)


async def test_details_have_the_tokens(client: httpx.AsyncClient) -> None:
    answer = await generate(client, details=True, seed=4, do_sample=True, return_full_text=True)
    assert answer.json() == {
        "generated_text": "hello=HELLO",
        "details": {
            "finish_reason": "eos_token",
            "prompt_tokens": 2,
            "generated_tokens": 3,
            "seed": 4,
            "prefill": [],
            "tokens": [
                {"id": 5, "text": "HE", "logprob": -0.5, "special": False},
                {"id": 6, "text": "LLO", "logprob": -0.25, "special": False},
                {"id": 2, "text": "</s>", "logprob": -0.1, "special": True},
            ],
        },
    }


async def test_the_prompts_tokens_and_alternatives_are_there_if_asked_for(
    client: httpx.AsyncClient, vllm: Vllm
) -> None:
    top = [None, *({f"token_id:{n}": -0.5, "token_id:9": -0.1} for n in (8, 5, 6, 2))]
    found = {
        "tokens": [f"token_id:{number}" for number in (7, 8, 5, 6, 2)],
        "token_logprobs": [None, -3.0, -0.5, -0.5, -0.5],
        "top_logprobs": top,
    }
    vllm.choices = [{**CHOICE, "finish_reason": "length", "logprobs": found}]
    answer = await generate(client, details=True, decoder_input_details=True, top_n_tokens=1)
    details = answer.json()["details"]
    assert details["prefill"] == [
        {"id": 7, "text": "<7>", "logprob": None},
        {"id": 8, "text": "<8>", "logprob": -3.0},
    ]
    assert [token["text"] for token in details["tokens"]] == ["<5>", "<6>", "<2>"]
    assert not any(token["special"] for token in details["tokens"])
    likely = {"id": 9, "text": "<9>", "logprob": -0.1, "special": False}
    assert details["top_tokens"] == [[likely]] * 3
    answer = await generate(client, details=True, return_k_alternatives=2)
    assert answer.json()["details"]["tokens"][0]["alternative_tokens"][0] == likely
    assert [asked["logprobs"] for asked in vllm.asked] == [1, 2]
    assert [asked["echo"] for asked in vllm.asked] == [True, False]


async def test_the_best_of_several_is_the_likeliest(client: httpx.AsyncClient, vllm: Vllm) -> None:
    worse = {**CHOICE, "text": "worse", "logprobs": {**LOGPROBS, "token_logprobs": [-9.0] * 3}}
    vllm.choices = [worse, CHOICE]
    answer = (await generate(client, details=True, do_sample=True, best_of=2)).json()
    assert answer["generated_text"] == "HELLO"
    assert [each["generated_text"] for each in answer["details"]["best_of_sequences"]] == ["worse"]
    assert vllm.asked[0]["n"] == 2


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ({}, {"temperature": 0.0}),
        ({"do_sample": True}, {"temperature": 1.0}),
        ({"top_p": 0.5}, {"temperature": 1.0, "top_p": 0.5}),
        ({"temperature": 0, "do_sample": True}, {"temperature": 0.0}),
        ({"temperature": 0.3, "top_k": 4, "seed": 1}, {"temperature": 0.3, "top_k": 4, "seed": 1}),
        ({"ignore_eos_token": True}, {"ignore_eos": True}),
        ({"truncate": 9}, {"truncate_prompt_tokens": 9, "truncation_side": "left"}),
        ({"repetition_penalty": 1.2}, {"repetition_penalty": 1.2}),
        ({"grammar": {"type": "regex", "value": "a+"}}, {"structured_outputs": {"regex": "a+"}}),
        ({"grammar": {"type": "json", "value": {}}}, {"structured_outputs": {"json": {}}}),
        (
            {"response_format": {"type": "json_object", "schema": {"type": "null"}}},
            {"structured_outputs": {"json": {"type": "null"}}},
        ),
        ({"adapter_id": "", "api_token": "hf_secret", "adapter_source": "hub"}, {"model": "base"}),
        ({"typical_p": 1.0, "watermark": False, "merged_adapters": None}, {"model": "base"}),
    ],
)
async def test_a_parameter_says_the_same_to_vllm(
    client: httpx.AsyncClient, vllm: Vllm, asked: dict[str, Any], sent: dict[str, Any]
) -> None:
    assert (await generate(client, **asked)).status_code == 200
    assert {name: vllm.asked[0].get(name) for name in sent} == sent
    assert "hf_secret" not in json.dumps(vllm.asked)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"merged_adapters": {"ids": ["a", "b"]}}, "add_weighted_adapter"),
        ({"adapter_id": "a", "adapter_source": "s3"}, "register the adapter"),
        ({"typical_p": 0.4}, "typical"),
        ({"watermark": True}, "watermark"),
        ({"grammar": {"type": "gbnf"}}, "`regex`"),
        ({"response_format": {"type": "xml"}}, "`json_object`"),
        ({"apply_chat_template": True}, "apply_chat_template is not supported"),
    ],
)
@pytest.mark.parametrize("path", ["/", "/generate", "/generate_stream"])
async def test_what_has_no_counterpart_is_refused(
    client: httpx.AsyncClient, vllm: Vllm, asked: dict[str, Any], said: str, path: str
) -> None:
    answer = await generate(client, path, **asked)
    error = answer.json()
    assert (answer.status_code, error["error_type"]) == (422, "validation")
    assert error["code"] == "parameter_unsupported"
    assert said in error["error"]
    assert vllm.asked == []


@pytest.mark.parametrize("asked", [{"x" * 1500: 1}, {"adapter_source": "x" * 1500}])
async def test_a_refusal_does_not_repeat_a_long_text(
    client: httpx.AsyncClient, asked: dict[str, Any]
) -> None:
    answer = await generate(client, **asked)
    assert answer.json()["code"] == "parameter_unsupported"
    assert len(answer.content) < 400


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/", b"{", "invalid_request"),
        ("/", b"", "invalid_request"),
        ("/", b"[]", "invalid_request"),
        ("/", b"{}", "invalid_request"),
        ("/generate_stream", b'{"inputs": ""}', "invalid_request"),
        ("/generate", b'{"inputs": 3}', "invalid_request"),
        ("/generate", b'{"inputs": "a", "parameters": {"max_new_tokens": 0}}', "invalid_request"),
        ("/generate_stream", b'{"inputs": "a", "parameters": {"top_n_tokens": 2}}', None),
        ("/generate_stream", b'{"inputs": "a", "parameters": {"best_of": 2}}', None),
        ("/", b'{"inputs": "%b"}' % (b"a" * 3000), "body_too_large"),
    ],
)
async def test_a_bad_body_is_refused_in_their_words(
    client: httpx.AsyncClient, vllm: Vllm, path: str, body: bytes, code: str | None
) -> None:
    answer = await client.post(path, content=body)
    error = answer.json()
    assert answer.status_code in (400, 413, 422)
    assert error["error_type"] == "validation"
    assert error["code"] == (code or "parameter_unsupported")
    assert isinstance(error["error"], str)
    assert vllm.asked == []


async def test_a_fleet_refuses_alternatives(vllm: Vllm) -> None:
    transport = httpx.ASGITransport(application(vllm, has_texts=False))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await generate(client, top_n_tokens=2)).status_code == 422
        assert (await generate(client, details=True)).status_code == 200


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, "not_found"), (429, "overloaded"), (400, "validation"), (503, "generation")],
)
@pytest.mark.parametrize("path", ["/", "/generate_stream"])
async def test_an_error_keeps_its_status_code_and_headers(
    client: httpx.AsyncClient, vllm: Vllm, status: int, kind: str, path: str
) -> None:
    vllm.error = (status, {"message": "no", "code": "stable"})
    answer = await generate(client, path)
    assert answer.status_code == status
    assert answer.json() == {"error": "no", "error_type": kind, "code": "stable"}
    assert answer.headers["retry-after"] == "3"


async def test_our_own_body_passes_unchanged(client: httpx.AsyncClient) -> None:
    for body in ({"prompt": "a"}, {"prompt": "a", "inputs": "b"}, {}, [1]):
        assert (await client.post("/generate", json=body)).json() == {"own": body}


def event(**choice: Any) -> bytes:
    return b"data: %b\n\n" % json.dumps({"choices": [{**CHOICE, **choice}]}).encode()


def step(text: str, number: int, **more: Any) -> bytes:
    found = {"tokens": [text], "token_logprobs": [-0.5]}
    more = {"finish_reason": None, "prompt_token_ids": None, **more}
    return event(**{"text": text, "token_ids": [number], "logprobs": found, **more})


async def streamed(client: httpx.AsyncClient, **parameters: Any) -> list[dict[str, Any]]:
    answer = await generate(client, "/generate_stream", **parameters)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-adaptry-version"] == "upper:1"
    *events, rest = answer.text.split("\n\n")
    assert rest == ""
    return [json.loads(each.removeprefix("data:")) for each in events]


async def test_a_stream_has_an_event_for_each_token(client: httpx.AsyncClient, vllm: Vllm) -> None:
    first = step("HE", 5, prompt_token_ids=[7, 8])
    last = step("", 2, finish_reason="stop")
    vllm.events = [first[:20], first[20:] + step("LLO", 6), last, b"data: [DONE]\n\n"]
    one, two, end = await streamed(client, details=True)
    token = {"id": 5, "text": "HE", "logprob": -0.5, "special": False}
    assert one == {"token": token, "generated_text": None, "details": None}
    assert two["token"]["text"] == "LLO"
    assert end["token"]["special"]
    assert end["generated_text"] == "HELLO"
    assert end["details"] == {
        "finish_reason": "eos_token",
        "prompt_tokens": 2,
        "generated_tokens": 3,
        "seed": None,
    }


async def test_a_text_may_look_like_a_line_of_the_stream(
    client: httpx.AsyncClient, vllm: Vllm
) -> None:
    cut = b'data: {"choices": [{"te\n'
    failed = b'data: {"error": {"message": "no data: more", "code": "stable"}}\n\n'
    vllm.events = [step("data: {", 5), cut + failed]
    token, error = await streamed(client)
    assert token["token"]["text"] == "data: {"
    assert error["error"] == "no data: more"


async def test_what_keeps_a_connection_alive_passes(client: httpx.AsyncClient, vllm: Vllm) -> None:
    comment = b": keep-alive\n\n"
    vllm.events = [comment, step("HE", 5), comment, step("", 2, finish_reason="stop")]
    answer = await generate(client, "/generate_stream")
    kinds = [event.partition(":")[0] for event in answer.text.split("\n\n")]
    assert kinds == ["", "data", "", "data", ""]


async def test_an_end_without_a_token_is_told_too(client: httpx.AsyncClient, vllm: Vllm) -> None:
    ended: dict[str, Any] = {"token_ids": [], "logprobs": None}
    vllm.events = [step("HE", 5), event(text="LLO", finish_reason="stop", stop_reason="O", **ended)]
    _, end = await streamed(client, details=True)
    assert (end["token"]["text"], end["token"]["special"]) == ("LLO", False)
    assert end["generated_text"] == "HELLO"
    assert end["details"]["finish_reason"] == "stop_sequence"
    assert end["details"]["generated_tokens"] == 1
    vllm.events = [step("HE", 5), event(text="", finish_reason="length", **ended)]
    _, end = await streamed(client)
    assert (end["token"]["special"], end["generated_text"]) == (True, "HE")


async def test_tokens_that_are_parts_of_a_letter_make_up_the_text(
    client: httpx.AsyncClient, vllm: Vllm
) -> None:
    parts = {"tokens": ["\ufffd", "\ufffd"], "token_logprobs": [-1, -1]}
    vllm.events = [event(text="ü", token_ids=[3, 4], logprobs=parts, finish_reason="length")]
    found = await streamed(client)
    assert [each["token"]["text"] for each in found] == ["", "ü"]
    assert (found[1]["generated_text"], found[1]["details"]) == ("ü", None)


async def test_a_stream_that_fails_ends_with_their_error(
    client: httpx.AsyncClient, vllm: Vllm
) -> None:
    failed = b'data: {"error": {"message": "it ended", "code": "engine_unavailable"}}\n\n'
    vllm.events = [step("HE", 5), failed, b"data: [DONE]\n\n"]
    *_, error = await streamed(client)
    assert error == {"error": "it ended", "error_type": "generation", "code": "engine_unavailable"}
    vllm.events = [step("HE", 5), b"data: [DONE]\n\n"]
    *_, error = await streamed(client)
    assert error["code"] == "generation_incomplete"
    vllm.choices = [{**CHOICE, "finish_reason": "abort"}]
    answer = await generate(client)
    assert (answer.status_code, answer.json()["code"]) == (500, "generation_incomplete")


async def test_a_client_that_leaves_ends_the_completion(vllm: Vllm) -> None:
    sent: list[Any] = []
    messages = [
        {"type": "http.request", "body": b'{"inputs": "wait"}'},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Any:
        return messages.pop(0) if len(messages) > 1 else messages[0]

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/prefix/generate",
        "root_path": "/prefix",
        "headers": [(b"content-length", b"18")],
        "query_string": b"",
    }
    await asyncio.wait_for(application(vllm)(scope, receive, send), 30)
    assert vllm.left.is_set()
    assert sent[-1]["body"] == b"null", "no error of ours is raised and logged"
