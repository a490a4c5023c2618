"""Answer: a completion, whole or as a stream, in TGI's and LoRAX's words."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from engine.errors import EngineError, GenerationIncomplete
from engine.tgi.schemas import GenerateBody
from engine.tgi.tokens import Row, TokenTexts, alternatives, finish_reason, token_rows
from registry.errors import RegistryError
from registry.http.dialects import tgi_error

_DATA, _DONE = b"data: ", b"[DONE]"
_END, _COMMENT = b"\n\n", b":"


def describe(error: EngineError | RegistryError) -> dict[str, object]:
    """In TGI's words."""
    return tgi_error(error.status, error.code, error.detail)


def read_error(status: int, body: bytes) -> dict[str, object]:
    """An error of `/v1/completions`."""
    try:
        found = json.loads(body)["error"]
        return tgi_error(status, str(found["code"]), str(found["message"]))
    except (ValueError, LookupError, TypeError):
        return tgi_error(status, "internal_error", "the engine's answer could not be read")


class WholeAnswer:
    """Of one or several choices, of which the likeliest is taken."""

    def __init__(self, asked: GenerateBody, texts: TokenTexts | None) -> None:
        self._asked = asked
        self._options = asked.options
        self._texts = texts

    def read(self, body: bytes) -> dict[str, object]:
        """Raises GenerationIncomplete."""
        content = json.loads(body)
        choices = content["choices"]
        if any(finish_reason(choice) is None for choice in choices):
            raise GenerationIncomplete
        if len(choices) > 1:
            choices.sort(key=_likelihood, reverse=True)
        answer: dict[str, object] = {"generated_text": self._text(choices[0])}
        if self._options.details:
            prompt_tokens = content["usage"]["prompt_tokens"]
            details = self._sequence(choices[0]) | {"prompt_tokens": prompt_tokens}
            if len(choices) > 1:
                details["best_of_sequences"] = [
                    {"generated_text": self._text(choice), **self._sequence(choice)}
                    for choice in choices[1:]
                ]
            answer["details"] = details
        return answer

    def _text(self, choice: Mapping[str, Any]) -> str:
        before = self._asked.inputs if self._options.return_full_text else ""
        return before + str(choice["text"])

    def _sequence(self, choice: Mapping[str, Any]) -> dict[str, object]:
        prefill, tokens = token_rows(choice, self._texts)
        details: dict[str, object] = {
            "finish_reason": finish_reason(choice),
            "generated_tokens": len(tokens),
            "seed": self._options.seed if self._options.samples else None,
            "prefill": prefill,
            "tokens": tokens,
        }
        most = self._options.alternatives
        if most and self._texts is not None:
            top = alternatives(choice, self._texts, most)
            if self._options.top_n_tokens:
                details["top_tokens"] = top
            else:
                for token, others in zip(tokens, top, strict=True):
                    token["alternative_tokens"] = others
        return details


def _likelihood(choice: Mapping[str, Any]) -> float:
    return sum(logprob or 0.0 for logprob in choice["logprobs"]["token_logprobs"])


class StreamedAnswer:
    """One event for each token; the last one has the whole text."""

    def __init__(self, asked: GenerateBody) -> None:
        self._asked = asked
        self._options = asked.options
        self._rest = b""
        self._text: list[str] = []
        self._prompt_tokens = 0
        self._tokens = 0
        self._ended = False

    def read(self, body: bytes) -> bytes:
        """The events that a piece of the completion's stream completes."""
        *events, self._rest = (self._rest + body).split(_END)
        return b"".join(map(self._translate, events))

    def end(self) -> bytes:
        """What is left to say when the completion's stream has ended."""
        if self._ended:
            return b""
        return _event(describe(GenerationIncomplete()))

    def _translate(self, event: bytes) -> bytes:
        if event.startswith(_COMMENT):  # of `--sse-keep-alive-interval`
            return event + _END
        return b"".join(map(_event, self._contents(event)))

    def _contents(self, event: bytes) -> Iterator[dict[str, object]]:
        data = _last_data(event)
        if data is None or data == _DONE:
            return
        chunk = json.loads(data)
        if "error" in chunk:
            self._ended = True
            yield read_error(500, data)
        for choice in chunk.get("choices", ()):
            yield from self._steps(choice)

    def _steps(self, choice: Mapping[str, Any]) -> Iterator[dict[str, object]]:
        self._prompt_tokens = len(choice.get("prompt_token_ids") or ()) or self._prompt_tokens
        self._text.append(choice["text"])
        tokens = token_rows(choice, None)[1] if choice["token_ids"] else []
        self._tokens += len(tokens)
        reason = finish_reason(choice)
        if reason is not None and not tokens:  # it ended after its last token was told
            tokens = [{"id": 0, "text": "", "logprob": 0.0, "special": choice["text"] == ""}]
        _share_text(tokens, choice["text"])
        for place, token in enumerate(tokens, start=1):
            is_last = reason is not None and place == len(tokens)
            yield {"token": token, **(self._last(reason) if is_last else _NOT_LAST)}
        self._ended = self._ended or reason is not None

    def _last(self, reason: str | None) -> dict[str, object]:
        before = self._asked.inputs if self._options.return_full_text else ""
        details = {
            "finish_reason": reason,
            "prompt_tokens": self._prompt_tokens,
            "generated_tokens": self._tokens,
            "seed": self._options.seed if self._options.samples else None,
        }
        return {
            "generated_text": before + "".join(self._text),
            "details": details if self._options.details else None,
        }


def _last_data(event: bytes) -> bytes | None:
    """None: it has none. Lines before it may be of an event that was cut."""
    lines = (line for line in reversed(event.split(b"\n")) if line.startswith(_DATA))
    return next((line.removeprefix(_DATA) for line in lines), None)


_NOT_LAST: dict[str, object] = {"generated_text": None, "details": None}


def _share_text(tokens: list[Row], text: str) -> None:
    """The texts of all that aren't special make up the answer's: a letter may be several tokens."""
    shown = [token for token in tokens if not token["special"]]
    if shown and "".join(token["text"] for token in shown) != text:
        for token in shown:
            token["text"] = ""
        shown[-1]["text"] = text


def _event(content: dict[str, object]) -> bytes:
    return b"data:" + json.dumps(content).encode() + _END
