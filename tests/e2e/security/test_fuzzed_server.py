"""schemathesis against the real server: vLLM's routes behind our gateway, and the cache."""

from collections import Counter
from typing import Any

import httpx
import pytest

from fuzz.engine_bodies import hostile_bodies
from fuzz.http_api import fuzz
from registry.http.json_shape import MAX_VALUES

pytestmark = [pytest.mark.engine]

SEED = 20261128
JSON = {"content-type": "application/json"}
CACHE = ("--include-path-regex", "^/api/v1/cache", "--exclude-path-regex", "/stream$")
# Each boundary of each field, as the phase `coverage` has it, would be thousands of generations.
ENGINE = (
    *("--include-path-regex", "^/(v1/|generate$|tokenize$|detokenize$|pooling$|score$)"),
    *("--phases", "examples,fuzzing"),
    *("--exclude-checks", "negative_data_rejection"),  # what it takes is vLLM's to say
)


def test_the_cache_of_a_real_engine(server: Any) -> None:
    done = fuzz(server.base_url, examples=5, seed=SEED, options=CACHE)
    assert done.returncode == 0, done.stdout[-30_000:]


def test_the_openai_routes(server: Any) -> None:
    done = fuzz(server.base_url, examples=5, seed=SEED, options=ENGINE)
    assert done.returncode == 0, done.stdout[-30_000:]
    assert server.complete("upper", "x").status_code == 200, "the engine lives"


def test_hostile_members_of_bodies_that_reach_the_engine(server: Any, is_long: bool) -> None:
    document = server.client.get("/openapi.json").json()
    answered: Counter[int] = Counter()
    for path, body in hostile_bodies(document, count=3000 if is_long else 300, seed=SEED):
        answer = server.client.post(path, content=body, headers=JSON, timeout=20)
        assert answer.status_code < 500 or answer.status_code == 501, (path, body, answer.text)
        assert "internal_error" not in answer.text, (path, body, answer.text)
        answered[answer.status_code] += 1
    assert answered[200] > 30, "else nothing reaches the engine"
    assert answered[400] > 30, "else nothing is hostile"
    assert server.complete("upper", "x").status_code == 200, "the engine lives"


@pytest.mark.parametrize("size", [10_000, 2**20, 2**23])
def test_a_prompt_over_the_models_length_is_refused(server: Any, size: int) -> None:
    answer = server.complete("upper", "x" * size)
    assert answer.status_code == 400, answer.text[:500]
    tokens = server.client.post("/v1/completions", json={"model": "upper", "prompt": [5] * size})
    expected = 400 if size < MAX_VALUES else 413
    assert tokens.status_code == expected, tokens.text[:500]


@pytest.mark.parametrize("path", ["/v1/completions", "/generate", "/api/v1/adapters/x/versions"])
def test_no_route_reads_what_is_too_large_or_too_deep(server: Any, path: str) -> None:
    large = server.client.post(path, content=b" " * (2**25 + 1))
    assert (large.status_code, code_of(large)) == (413, "body_too_large")
    deep = server.client.post(path, content=b'{"a":' * 100_000)
    assert (deep.status_code, code_of(deep)) == (400, "body_too_deep")


def test_headers_over_the_limit_are_a_431(server: Any) -> None:
    answer = server.client.get("/v1/models", headers={"x": "y" * 2**17})
    assert (answer.status_code, code_of(answer)) == (431, "headers_too_large")


def code_of(answer: httpx.Response) -> str:
    content = answer.json()
    error = content.get("error", content)
    return str(content["code"] if isinstance(error, str) else error["code"])  # a text: TGI's form
