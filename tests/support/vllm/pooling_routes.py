"""Routes of a pooling engine: what each is sent, and what it has to answer after PEFT."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.adapters.peft_kinds import PROMPT, TOLERANCE, Peft

DOCUMENTS = ("and another text", "hello=")


@dataclass(frozen=True)
class Route:
    """`numbers` of a response, which `right` computes of the same texts."""

    body: Mapping[str, Any]
    numbers: Callable[[Any], list[float]]
    right: Callable[[Peft, Path | None], list[float]]


def _alone(peft: Peft, adapter: Path | None) -> list[float]:
    return peft.pooled(adapter, PROMPT)


def _similarities(peft: Peft, adapter: Path | None) -> list[float]:
    query = peft.pooled(adapter, PROMPT)
    vectors = [peft.pooled(adapter, text) for text in DOCUMENTS]
    return [sum(a * b for a, b in zip(query, vector, strict=True)) for vector in vectors]


def _of_pairs(peft: Peft, adapter: Path | None) -> list[float]:
    return [peft.pooled(adapter, PROMPT + text)[0] for text in DOCUMENTS]


def _relevance(answer: Any) -> list[float]:
    """In the order of the documents: it answers with the best first."""
    results = sorted(answer["results"], key=lambda result: result["index"])
    return [result["relevance_score"] for result in results]


def _first(answer: Any, name: str) -> list[float]:
    (only,) = answer["data"]
    numbers: list[float] = only[name]
    return numbers


def _scoring(right: Callable[[Peft, Path | None], list[float]]) -> dict[str, Route]:
    scored = {"text_1": PROMPT, "text_2": list(DOCUMENTS)}
    ranked = {"query": PROMPT, "documents": list(DOCUMENTS)}

    def scores(answer: Any) -> list[float]:
        return [each["score"] for each in answer["data"]]

    return {
        **dict.fromkeys(("/score", "/v1/score"), Route(scored, scores, right)),
        **dict.fromkeys(("/rerank", "/v1/rerank", "/v2/rerank"), Route(ranked, _relevance, right)),
    }


_EMBEDDING: Mapping[str, Route] = {
    "/v1/embeddings": Route({"input": PROMPT}, lambda found: _first(found, "embedding"), _alone),
    "/v2/embed": Route(
        {"texts": [PROMPT], "embedding_types": ["float"]},
        lambda found: list(found["embeddings"]["float"][0]),
        _alone,
    ),
    "/pooling": Route(
        {"input": PROMPT, "task": "embed"}, lambda found: _first(found, "data"), _alone
    ),
    **_scoring(_similarities),
}
_CLASSIFYING: Mapping[str, Route] = {
    "/classify": Route({"input": PROMPT}, lambda found: _first(found, "probs"), _alone),
    "/pooling": Route(
        {"input": PROMPT, "task": "classify"}, lambda found: _first(found, "data"), _alone
    ),
}
_REWARDING: Mapping[str, Route] = {**_CLASSIFYING, **_scoring(_of_pairs)}


def routes_of(peft: Peft) -> Mapping[str, Route]:
    """vLLM scores pairs by their embeddings, or by the single label of a classifier."""
    if peft.task == "generate":
        return {}
    if peft.task == "embed":
        return _EMBEDDING
    return _REWARDING if len(peft.base.logprobs) == 1 else _CLASSIFYING


def wrong_routes(
    client: Any, model: str, peft: Peft, adapter: Path | None
) -> Iterator[tuple[str, object]]:
    """Those that do not answer as PEFT, each with what it answered."""
    for path, route in routes_of(peft).items():
        response = client.post(path, json={"model": model, **route.body})
        if response.status_code != 200:
            yield path, response.text
            continue
        found, right = route.numbers(response.json()), route.right(peft, adapter)
        if any(abs(a - b) >= TOLERANCE for a, b in zip(found, right, strict=True)):
            yield path, (found, right)
