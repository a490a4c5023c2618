"""Attacks: requests of one caller that once made all others wait."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MARKER = "MARKERFOUR"
"""Planted in every body that is refused: it may be found in no log."""

MODEL = "tiny-text-tools"

_CHAT = [{"role": "user", "content": MARKER}]
_PART = [{"role": "user", "content": [{"type": "zzz", "text": MARKER}]}]

REFUSED: Sequence[tuple[str, Mapping[str, Any]]] = [
    ("/v1/responses", {"model": MODEL, "input": _PART}),
    ("/v1/responses", {"model": MODEL, "input": MARKER, "temperature": MARKER}),
    ("/v1/messages", {"model": MODEL, "messages": _CHAT}),
    ("/v1/messages", {"model": MODEL, "messages": _PART, "max_tokens": 4}),
    ("/v1/messages", {"model": MODEL, "messages": [{"role": MARKER}], "max_tokens": 4}),
    ("/v1/messages/count_tokens", {"model": MODEL, "messages": MARKER}),
    ("/v1/chat/completions", {"model": MODEL, "messages": [{"role": 1, "content": MARKER}]}),
    ("/v1/chat/completions", {"model": MODEL, "messages": _CHAT, "max_tokens": MARKER}),
    ("/v1/chat/completions", {"model": MODEL, "messages": _CHAT, "tool_choice": "required"}),
    ("/v1/chat/completions", {"model": MODEL, "messages": _CHAT, "chat_template": MARKER}),
    ("/v1/completions", {"model": MODEL, "prompt": [MARKER, 1]}),
    ("/v1/completions", {"model": MODEL, "prompt": MARKER, "logit_bias": {"1": MARKER}}),
    ("/v1/completions", {"model": MODEL, "prompt": MARKER, "n": -1}),
    ("/v1/completions", {"model": MODEL, "prompt": MARKER * 10_000}),
    (
        "/v1/completions",
        {"model": MODEL, "prompt": MARKER, "structured_outputs": {"regex": f"({MARKER}"}},
    ),
    (
        "/v1/completions",
        {"model": MODEL, "prompt": MARKER, "structured_outputs": {"grammar": f"root ::= {MARKER}"}},
    ),
    ("/generate", {"model": MODEL, "prompt": MARKER, "max_tokens": MARKER}),
    ("/tokenize", {"model": MODEL, "prompt": [MARKER]}),
    ("/tokenize", {"model": MODEL, "prompt": MARKER * 10_000}),
    ("/detokenize", {"model": MODEL, "tokens": [MARKER]}),
]


@dataclass(frozen=True, slots=True)
class Attack:
    """`body` is sent again and again, each time `leave_seconds` later if the caller leaves."""

    name: str
    path: str
    body: Mapping[str, Any]
    leave_seconds: float | None = None


def attacks() -> list[Attack]:
    """Those of the findings, as large as a body may be."""
    text = "The quick brown fox, and more. "
    words = {"model": MODEL, "max_tokens": 4}
    wrong_parts = [{"role": "user", "content": [{"type": "zzz", "a": MARKER}]}] * 7000
    wrong_roles = [{"role": 1, "content": MARKER}] * 20_000
    ids = list(range(256)) * 17_000

    def grammar(**wanted: Any) -> Mapping[str, Any]:
        return {**words, "prompt": "x", "structured_outputs": wanted}

    return [
        Attack("wrong parts, 400 KB", "/v1/responses", {"model": MODEL, "input": wrong_parts}),
        Attack("wrong roles, 600 KB", "/v1/chat/completions", {**words, "messages": wrong_roles}),
        Attack(
            "wrong members, 300 KB",
            "/v1/completions",
            {**words, "prompt": "x", "logit_bias": dict.fromkeys(range(16_000), MARKER)},
        ),
        Attack("token ids, 22 MB", "/v1/completions", {**words, "prompt": ids}),
        Attack("long prompt, 32 MB", "/v1/completions", {**words, "prompt": text * 1_000_000}),
        Attack("tokenize, 2 MB", "/tokenize", {"model": MODEL, "prompt": text * 65_000}),
        Attack("tokenize, 30 MB", "/tokenize", {"model": MODEL, "prompt": text * 1_000_000}),
        Attack("tokenize, and leave", "/tokenize", {"model": MODEL, "prompt": text * 200_000}, 0.2),
        Attack(
            "detokenize, 3 M tokens", "/detokenize", {"model": MODEL, "tokens": [5] * 3_000_000}
        ),
        Attack("regex in a regex", "/v1/completions", grammar(regex="(a{1,900}){1,900}")),
        Attack(
            "50,000 choices", "/v1/completions", grammar(choice=[f"c {n}" for n in range(50_000)])
        ),
        Attack(
            "alternation, 1 MB",
            "/v1/completions",
            grammar(regex="|".join(f"word{n}" for n in range(110_000))),
        ),
        Attack(
            "schema of 2,000 enums",
            "/v1/completions",
            grammar(
                json={
                    "type": "object",
                    "properties": {
                        f"f{n}": {"enum": [f"v{n}-{i}" for i in range(20)]} for n in range(2000)
                    },
                }
            ),
        ),
        Attack("recursive $ref", "/v1/completions", grammar(json={"$ref": "#"})),
    ]
