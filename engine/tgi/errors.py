"""Errors of the generate API, beside those of every request."""

from engine.errors import EngineError


class ParameterUnsupported(EngineError):
    """TGI's or LoRAX's, without a counterpart here."""

    status = 422
    code = "parameter_unsupported"

    def __init__(self, parameter: str, reason: str) -> None:
        shown = parameter if len(parameter) <= 80 else f"{parameter[:80]}…"
        super().__init__(f"{shown} is not supported: {reason}")


class GenerationIncomplete(EngineError):
    """vLLM ended it, and does not say why."""

    status = 500
    code = "generation_incomplete"
    detail = "the generation ended before it was complete"
