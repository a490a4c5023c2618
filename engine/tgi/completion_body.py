"""Completion body: what `/v1/completions` is asked in place of a body of TGI's or LoRAX's."""

from typing import Any

from engine.errors import ParameterUnsupported
from engine.tgi.schemas import GenerateBody, GenerateParameters

_SAME = ("repetition_penalty", "frequency_penalty", "seed", "stop", "top_k", "top_p")
_JSON = ("json", "json_object")


def completion_body(asked: GenerateBody, base_model: str, *, streams: bool) -> dict[str, Any]:
    """Raises ParameterUnsupported."""
    options = asked.options
    body: dict[str, Any] = {
        "model": options.adapter_id or base_model,
        "prompt": asked.inputs,
        "max_tokens": options.max_new_tokens,
        "temperature": _temperature(options),
        "include_stop_str_in_output": True,  # as TGI: the text ends with what stopped it
        "stream": streams,
        **{name: value for name in _SAME if (value := getattr(options, name)) is not None},
        **_structure(options),
    }
    if options.ignore_eos_token:
        body["ignore_eos"] = True
    if options.truncate is not None:
        body |= {"truncate_prompt_tokens": options.truncate, "truncation_side": "left"}
    if options.best_of is not None:
        body["n"] = options.best_of
    if streams or options.details or (options.best_of or 1) > 1:
        body |= {"logprobs": options.alternatives, "return_token_ids": True}
        body["return_tokens_as_token_ids"] = options.alternatives > 0
        body["echo"] = bool(options.decoder_input_details)
    return body


def _temperature(options: GenerateParameters) -> float:
    if not options.samples:
        return 0.0
    return 1.0 if options.temperature is None else options.temperature


def _structure(options: GenerateParameters) -> dict[str, Any]:
    if options.grammar is not None:
        kind, value = options.grammar.get("type"), options.grammar.get("value")
        if kind in _JSON:
            return {"structured_outputs": {"json": value}}
        if kind == "regex":
            return {"structured_outputs": {"regex": value}}
        raise ParameterUnsupported("grammar", "its `type` is `json` or `regex`")
    if options.response_format is not None:
        if options.response_format.get("type") != "json_object":
            raise ParameterUnsupported("response_format", "its `type` is `json_object`")
        schema = options.response_format.get("schema")
        return {"structured_outputs": {"json": schema} if schema else {"json_object": True}}
    return {}
