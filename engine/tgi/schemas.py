"""Schemas of TGI's and LoRAX's generate bodies, and what of them can't be honoured."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from engine.errors import ParameterUnsupported

_SOURCES = (None, "", "hub", "registry")
_OFF: tuple[object, ...] = (None, False, "", [], {})
_REASONS = {
    "merged_adapters": "merge with PEFT's `add_weighted_adapter`, and register the result",
    "typical_p": "vLLM has no typical sampling",
    "watermark": "vLLM has no such watermark",
}

Whole = Annotated[int | None, Field(ge=1)]


class GenerateParameters(BaseModel):
    """Of TGI and LoRAX. What is null has the default of vLLM and of the model."""

    model_config = ConfigDict(extra="allow")

    adapter_id: Annotated[
        str | None, Field(description="Any reference, as `model` is; null: the base model.")
    ] = None
    adapter_source: Annotated[
        str | None, Field(description="`hub` or null: adapters are registered, not fetched here.")
    ] = None
    api_token: Annotated[str | None, Field(description="Not used: nothing is fetched.")] = None
    do_sample: bool | None = None
    max_new_tokens: Annotated[Whole, Field(description="Null: as many as the model has room.")] = (
        None
    )
    ignore_eos_token: bool | None = None
    best_of: Whole = None
    repetition_penalty: Annotated[float | None, Field(gt=0)] = None
    frequency_penalty: float | None = None
    return_full_text: bool | None = None
    seed: Annotated[int | None, Field(ge=0, lt=2**63)] = None
    stop: list[str] | None = None
    temperature: Annotated[float | None, Field(ge=0)] = None
    top_k: Whole = None
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    truncate: Whole = None
    details: bool | None = None
    decoder_input_details: bool | None = None
    top_n_tokens: Annotated[
        int | None, Field(ge=0, description="TGI's. Not through a fleet, and not in a stream.")
    ] = None
    return_k_alternatives: Annotated[
        int | None, Field(ge=0, description="LoRAX's name for it.")
    ] = None
    grammar: Annotated[
        dict[str, Any] | None, Field(description="TGI's: `type` is `json` or `regex`, and `value`.")
    ] = None
    response_format: Annotated[
        dict[str, Any] | None, Field(description="LoRAX's: `type` is `json_object`, and `schema`.")
    ] = None

    @property
    def alternatives(self) -> int:
        """How many of the most likely tokens are wanted of each."""
        return self.top_n_tokens or self.return_k_alternatives or 0

    @property
    def samples(self) -> bool:
        """TGI samples where anything says how; otherwise it takes the most likely token."""
        if self.temperature is not None:
            return self.temperature > 0
        return bool(self.do_sample) or self.top_k is not None or self.top_p is not None

    def check(self, *, streams: bool, has_texts: bool) -> None:
        """Raises ParameterUnsupported. `has_texts`: the texts of any tokens are known here."""
        if self.adapter_source not in _SOURCES:
            reason = "register the adapter, then name it"
            raise ParameterUnsupported(f"adapter_source={self.adapter_source}", reason)
        for name, value in (self.model_extra or {}).items():
            if value not in _OFF and not (name == "typical_p" and value == 1):
                reason = _REASONS.get(name, "it is not known here")
                raise ParameterUnsupported(name, reason)
        if streams:
            self._check_stream()
        if self.alternatives and not has_texts:
            raise ParameterUnsupported(self._name_of_alternatives, "a fleet can't tell their texts")

    def _check_stream(self) -> None:
        if (self.best_of or 1) > 1:
            raise ParameterUnsupported("best_of", "a stream has one answer")
        if self.decoder_input_details:
            raise ParameterUnsupported("decoder_input_details", "a stream has none")
        if self.alternatives:
            raise ParameterUnsupported(self._name_of_alternatives, "a stream has none")

    @property
    def _name_of_alternatives(self) -> str:
        return "top_n_tokens" if self.top_n_tokens else "return_k_alternatives"


class GenerateBody(BaseModel):
    """Of `POST /`, `/generate` and `/generate_stream`."""

    inputs: Annotated[str, Field(min_length=1)]
    parameters: GenerateParameters | None = None
    stream: Annotated[
        bool | None, Field(description="Of `POST /`; the paths of the others say it.")
    ] = None

    @property
    def options(self) -> GenerateParameters:
        return self.parameters or GenerateParameters()


class GeneratedToken(BaseModel):
    """`special`: it ended the text, and is no part of it."""

    id: int
    text: str
    logprob: float | None
    special: bool = False


class GeneratedDetails(BaseModel):
    """`top_tokens` (TGI) and `alternative_tokens` of each token (LoRAX) only if asked for."""

    model_config = ConfigDict(extra="allow")

    finish_reason: Annotated[str, Field(description="`length`, `eos_token` or `stop_sequence`.")]
    prompt_tokens: int
    generated_tokens: int
    seed: int | None = None
    prefill: list[GeneratedToken] = []
    tokens: list[GeneratedToken] = []


class Generated(BaseModel):
    """`details` only if asked for."""

    generated_text: str
    details: GeneratedDetails | None = None
