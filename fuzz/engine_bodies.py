"""Bodies for the routes that generate: valid ones, one or two members replaced by hostile values.

schemathesis makes whole bodies, of which nearly all are refused before they reach the engine.
"""

import json
import random
from collections.abc import Iterator, Mapping
from typing import Any

MESSAGES = [{"role": "user", "content": "hello="}]
VALID: Mapping[str, Mapping[str, Any]] = {
    "/v1/completions": {"prompt": "hello=", "max_tokens": 2},
    "/v1/chat/completions": {"messages": MESSAGES, "max_tokens": 2},
    "/v1/responses": {"input": "hello=", "max_output_tokens": 2},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 2},
    "/v1/messages/count_tokens": {"messages": MESSAGES},
    "/v1/fanout": {"branches": [{"model": "upper"}], "prompt": "hello=", "max_tokens": 2},
    "/generate": {"prompt": "hello=", "max_tokens": 2},
    "/invocations": {"prompt": "hello=", "max_tokens": 2},
    "/tokenize": {"prompt": "hello="},
    "/detokenize": {"tokens": [5, 6]},
}
EVERYWHERE = (
    *("model", "prompt", "messages", "input", "stop", "logit_bias", "structured_outputs", "tools"),
    *("tool_choice", "response_format", "stream", "stream_options", "n", "best_of", "seed"),
    *("temperature", "top_p", "top_k", "min_p", "max_tokens", "logprobs", "prompt_logprobs"),
    *("user", "suffix", "echo", "bad_words", "allowed_token_ids", "stop_token_ids", "priority"),
    *("kv_transfer_params", "vllm_xargs", "cache_salt", "chat_template", "chat_template_kwargs"),
    *("documents", "lora_request", "prompt_embeds", "truncate_prompt_tokens", "request_id"),
    *("repetition_penalty", "presence_penalty", "frequency_penalty", "reasoning", "metadata"),
)
HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 2**31, 2**63, -(2**63), 2**64, 10**30, 0.5, -0.0, 1e308),
    *(float("nan"), float("inf"), "", "x", "auto", "json_object", "\u0000", "\ud800", "x" * 3000),
    *("../../etc/passwd", "{{ 1 / 0 }}", "{% for a in range(10**9) %}{% endfor %}", "AAAA", "=="),
    *([], [[]], [None], [-1], [2**40], [1] * 300, ["x"], [""], [{}], [[1, 2], [3]], ["x"] * 40),
    *({}, {"a": {}}, {"type": "x"}, {"5": 1e9}, {"-1": 1}, {"x": None}, {"include_usage": 5}),
    *({"regex": "("}, {"regex": "[a"}, {"grammar": "root ::="}, {"json": "{"}, {"choice": []}),
    *({"json": {"type": "x"}}, {"json": {"$ref": "#/a"}}, {"type": "json_schema"}),
    [{"role": "user", "content": None}],
    [{"role": "tool", "content": "x"}],
    [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}],
    [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
    [{"role": "user", "content": [{"type": "text"}]}],
    [{"type": "function", "function": {"name": "f", "parameters": {"type": 5}}}],
)


def hostile_bodies(
    document: Mapping[str, Any], *, count: int, seed: int
) -> Iterator[tuple[str, bytes]]:
    """Paths and bodies. `document`: the server's OpenAPI document, for the members' names."""
    chance = random.Random(seed)  # to be repeated, not to be secret
    members = {path: sorted({*EVERYWHERE, *_members(document, path)}) for path in VALID}
    paths = sorted(VALID)
    for number in range(count):
        path = paths[number % len(paths)]
        body: dict[str, Any] = {"model": "upper", **VALID[path]}
        for _ in range(chance.choice((1, 1, 1, 2))):
            body[chance.choice(members[path])] = chance.choice(HOSTILE)
        if chance.random() < 0.2:
            body.setdefault("stream", True)
        yield path, json.dumps(body).encode()


def _members(document: Mapping[str, Any], path: str) -> Iterator[str]:
    content = document["paths"].get(path, {}).get("post", {}).get("requestBody", {})
    schema = content.get("content", {}).get("application/json", {}).get("schema", {})
    for part in (schema, *schema.get("anyOf", ())):
        name = part.get("$ref", "").rpartition("/")[2]
        yield from document["components"]["schemas"].get(name, {}).get("properties", {})
