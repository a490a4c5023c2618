"""LoRA errors: refusals of the routes that load and unload, as vLLM 0.32 and its clients say them.

vLLM has other statuses than our own API: 500 for files that it can't serve, 404 for any folder that
it can't read, 400 for a name that is taken. Some clients match its sentences, so ours have them
too. `code` is ours.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from engine.errors import EngineError
from engine.gateway.openai_errors import openai_error
from engine.gateway.request_context import current_request
from engine.operations.model_paths import is_local
from registry.errors import (
    NameReserved,
    RegistryError,
    SourceNotAllowed,
    SourceNotFound,
    UnknownAdapter,
)
from registry.errors.defects import Defect
from registry.validation import explain

_TYPES = {400: "InvalidUserInput", 404: "NotFoundError", 500: "InternalServerError"}
_MISSING = frozenset({SourceNotFound.code, Defect.CONFIG_MISSING})
_DEFECTS = frozenset(Defect)
_SENTENCES = {
    Defect.RANK_TOO_LARGE: "the LoRA rank is greater than max_lora_rank",
    Defect.DORA_UNSUPPORTED: "vLLM does not yet support DoRA",
    Defect.BIAS_UNSUPPORTED: "vLLM does not support LoRA bias",
    Defect.MODULES_TO_SAVE_UNSUPPORTED: "Unsupported modules_to_save",
    Defect.WEIGHTS_MISSING: "the folder doesn't contain tensors",
}
"""Parts of vLLM's sentences, beside ours."""


class LoraRefusal(Exception):
    """A refusal with the status that vLLM's clients expect."""

    def __init__(
        self, status: int, code: str, message: str, retry_after_seconds: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after_seconds = retry_after_seconds

    def response(self) -> JSONResponse:
        """In vLLM's format. It is final: the gateway looks for an engine's failure in any 500."""
        if (running := current_request()) is not None:
            running.is_reported = True
        content = openai_error(self.status, self.code, self.message, kind=_TYPES.get(self.status))
        seconds = self.retry_after_seconds
        headers = None if seconds is None else {"retry-after": str(seconds)}
        return JSONResponse(content, self.status, headers)


@contextmanager
def as_vllm_refuses(name: str, path: str = "") -> Iterator[None]:
    """Context manager that turns our errors into LoraRefusal. `path`: what is loaded."""
    try:
        yield
    except (EngineError, RegistryError) as error:
        raise _refusal(error, name, path) from error


def refused_body(error: RequestValidationError) -> LoraRefusal:
    """A body that lacks a field, for example."""
    found = "; ".join(
        f"{'.'.join(map(str, each['loc'][1:] or each['loc']))} {explain(each)}"
        for each in error.errors()[:3]
    )
    return LoraRefusal(400, "invalid_request", found)


def _refusal(error: EngineError | RegistryError, name: str, path: str) -> LoraRefusal:
    status, words = _status_and_words(error.code, name, path)
    message = f"{error.detail}: {words}" if words else error.detail
    return LoraRefusal(status or error.status, error.code, message, error.retry_after_seconds)


def _status_and_words(code: str, name: str, path: str) -> tuple[int | None, str]:
    if code == UnknownAdapter.code and not path:
        return 404, f"The lora adapter '{name}' cannot be found."
    if code == NameReserved.code:
        return 400, f"The lora adapter '{name}' conflicts with a served base model."
    if code in _MISSING or (code == SourceNotAllowed.code and is_local(path)):
        return 404, f"Loading lora {name} failed: No adapter found for {path}"
    if code in _DEFECTS:
        return 500, _SENTENCES.get(Defect(code), "")
    return None, ""
