"""Comparison of what an adapter was trained with and what the base model has.

The base model's tokenizer reads every prompt. Under another chat template, or with other tokens, an
adapter answers worse than it was trained to, and nothing fails.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from registry.errors import InvalidAdapter
from registry.errors.defects import Defect, Remark
from registry.inspection.training_files import (
    FOLDER,
    NEW_EMBEDDINGS,
    TrainingFacts,
    read_base_facts,
    read_training_facts,
    tokenizer_bytes,
    vocabulary_size,
)

_SHOWN = 5


@dataclass(frozen=True)
class BaseTraining:
    """What the base model in a folder has. Read once, when the first adapter is compared."""

    folder: Path

    @cached_property
    def facts(self) -> TrainingFacts:
        return read_base_facts(self.folder)

    @cached_property
    def max_tokenizer_bytes(self) -> int:
        """For a tokenizer that may be the same in another form: room for spacing."""
        return 3 * tokenizer_bytes(self.folder) + 2**16

    @cached_property
    def vocabulary_size(self) -> int | None:
        return vocabulary_size(self.folder)


@dataclass(frozen=True, slots=True)
class Training:
    """What an adapter was trained with, beside what the base model has; None: not known."""

    own: TrainingFacts = field(default_factory=TrainingFacts)
    base: BaseTraining | None = None

    @property
    def chat_template(self) -> str | None:
        """The adapter's, if the base model has another one."""
        is_other = self.base is None or self.own.chat_template != self.base.facts.chat_template
        return self.own.chat_template if is_other else None

    @property
    def sampling_defaults(self) -> dict[str, Any] | None:
        """Defaults as in a `generation_config.json`, if the base model has others."""
        base = TrainingFacts() if self.base is None else self.base.facts
        defaults: dict[str, Any] = {}
        if self.own.sampling != base.sampling:
            defaults.update(self.own.sampling)
        if not set(self.own.eos_ids) <= set(base.eos_ids):
            defaults["eos_token_id"] = list(self.own.eos_ids)
        return defaults or None

    def problems(self) -> Iterator[InvalidAdapter]:
        """Tokens that the base model does not have."""
        own = self.own
        if own.has_new_embeddings:
            detail = f"{NEW_EMBEDDINGS}: vLLM does not serve tokens that an adapter brings with it"
            yield InvalidAdapter(Defect.NEW_EMBEDDINGS, detail)
        size = None if self.base is None else self.base.vocabulary_size
        if size is None or own.largest_id is None or own.largest_id < size:
            return
        beyond = {text: id_ for text, id_ in own.tokens.items() if id_ >= size}
        which = f": {_list(beyond)}" if beyond else ""
        detail = f"its tokenizer has ids up to {own.largest_id}, the base model has {size} tokens"
        yield InvalidAdapter(Defect.TOKENS_BEYOND_VOCABULARY, detail + which)

    def remarks(self) -> Iterator[tuple[Remark, str]]:
        """(code, detail) of what differs. Only what the adapter's files tell is compared."""
        if self.base is None:
            return
        own, base = self.own, self.base.facts
        if self.chat_template is not None:
            detail = "it was trained with a chat template of its own"
            missing = "; the base model has none" if base.chat_template is None else ""
            yield Remark.CHAT_TEMPLATE_DIFFERS, detail + missing
        if own.tokenizer is not None and own.tokenizer != base.tokenizer:
            detail = "its tokenizer reads texts otherwise than the base model's"
            yield Remark.TOKENIZER_DIFFERS, detail
        if new := {t: id_ for t, id_ in own.tokens.items() if base.tokens.get(t) != id_}:
            yield Remark.TOKENS_ADDED, f"tokens that the base model's tokenizer lacks: {_list(new)}"
        yield from _eos_remarks(own, base)
        if own.sampling and own.sampling != base.sampling:
            detail = ", ".join(f"{name} {value:g}" for name, value in own.sampling.items())
            yield Remark.SAMPLING_DIFFERS, f"its generation_config.json has defaults: {detail}"


def compare_training(folder: Path, base: BaseTraining | None) -> Training:
    """Read what is beside an adapter in quarantine."""
    most = 0 if base is None else base.max_tokenizer_bytes
    return Training(read_training_facts(folder / FOLDER, most), base)


def _eos_remarks(own: TrainingFacts, base: TrainingFacts) -> Iterator[tuple[Remark, str]]:
    if own.eos_token is not None and base.eos_token not in (None, own.eos_token):
        detail = f"it was trained to end with {own.eos_token[:80]!r}, not {base.eos_token!r}"
        yield Remark.EOS_DIFFERS, detail
    elif not set(own.eos_ids) <= set(base.eos_ids):
        detail = f"its generation ends with the ids {list(own.eos_ids)[:_SHOWN]}, the base model's "
        yield Remark.EOS_DIFFERS, f"{detail}with {list(base.eos_ids)[:_SHOWN]}"


def _list(tokens: Mapping[str, int]) -> str:
    shown = ", ".join(f"{text[:40]!r} ({id_})" for text, id_ in list(tokens.items())[:_SHOWN])
    return shown + (f" and {len(tokens) - _SHOWN} more" if len(tokens) > _SHOWN else "")
