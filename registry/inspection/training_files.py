"""Training files: the tokenizer, chat template and generation defaults saved beside an adapter.

They are small, untrusted and optional. What can't be read counts as absent.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blake3 import blake3

FOLDER = "beside"
"""Where they are in quarantine, beside the two files that are stored."""

_TOKENIZER, _TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
_TEMPLATE, _GENERATION = "chat_template.jinja", "generation_config.json"
_ADDED, NEW_EMBEDDINGS = "added_tokens.json", "new_embeddings.safetensors"

NAMES = (_TOKENIZER, _TOKENIZER_CONFIG, _TEMPLATE, _GENERATION, _ADDED, NEW_EMBEDDINGS)

MAX_FILE_BYTES = 64 * 2**20
UNREAD = "unread"
"""Stands for the digest of a tokenizer that is too large to be the base model's."""

_MAX_SMALL_BYTES = 4 * 2**20  # parsed, JSON takes many times its size
_MAX_BASE_BYTES = 512 * 2**20
MAX_TEMPLATE_LENGTH = 256 * 1024
MAX_EOS_IDS = 64
_MAX_TOKENS = 2_000_000

SAMPLING: Mapping[str, tuple[type, float, float]] = {
    "repetition_penalty": (float, 1e-6, 1e6),
    "presence_penalty": (float, -2, 2),
    "frequency_penalty": (float, -2, 2),
    "temperature": (float, 0, 1e6),
    "top_k": (int, -1, 2**31 - 1),
    "top_p": (float, 1e-6, 1),
    "min_p": (float, 0, 1),
    "max_new_tokens": (int, 1, 2**31 - 1),
}
"""The fields of a `generation_config.json` that vLLM takes as defaults: type, least and most."""

# What of a tokenizer.json decides which ids a text has
_DECIDING = ("model", "normalizer", "pre_tokenizer", "post_processor")


@dataclass(frozen=True, slots=True)
class TrainingFacts:
    """What an adapter was trained with, or what a base model has; None: not told.

    `tokenizer` is a digest. `tokens`: ids by text, of added tokens only. `eos_ids` are those of the
    generation's configuration.
    """

    chat_template: str | None = None
    sampling: Mapping[str, float] = field(default_factory=dict)
    tokenizer: str | None = None
    tokens: Mapping[str, int] = field(default_factory=dict)
    largest_id: int | None = None
    eos_token: str | None = None
    eos_ids: tuple[int, ...] = ()
    has_new_embeddings: bool = False


def tokenizer_bytes(folder: Path) -> int:
    """Size of the tokenizer's file; 0 without one."""
    try:
        return (folder / _TOKENIZER).stat().st_size
    except OSError:
        return 0


def read_base_facts(folder: Path) -> TrainingFacts:
    """Of a base model's folder, which is trusted."""
    return read_training_facts(folder, _MAX_BASE_BYTES)


def read_training_facts(folder: Path, max_tokenizer_bytes: int) -> TrainingFacts:
    """Of a folder that may hold any of `NAMES`; a larger tokenizer is not read."""
    if not folder.is_dir():
        return TrainingFacts()
    tokenizer = _read_object(folder / _TOKENIZER, max_tokenizer_bytes)
    is_unread = tokenizer_bytes(folder) > max_tokenizer_bytes
    config = _read_object(folder / _TOKENIZER_CONFIG)
    generation = _read_object(folder / _GENERATION)
    tokens = dict(_added_tokens(tokenizer, config, _read_object(folder / _ADDED)))
    ids = [*tokens.values(), *_vocabulary_ids(tokenizer)]
    return TrainingFacts(
        chat_template=_chat_template(folder, config),
        sampling=dict(_sampling(generation)),
        tokenizer=UNREAD if is_unread else _tokenizer_digest(tokenizer),
        tokens=tokens,
        largest_id=max(ids, default=None),
        eos_token=_text_of(config.get("eos_token")),
        eos_ids=tuple(sorted(set(_eos_ids(generation)))[:MAX_EOS_IDS]),
        has_new_embeddings=(folder / NEW_EMBEDDINGS).is_file(),
    )


def vocabulary_size(folder: Path) -> int | None:
    """How many token ids a base model has, by its `config.json`."""
    config = _read_object(folder / "config.json")
    nested = config.get("text_config")
    for found in (config, nested if isinstance(nested, dict) else {}):
        if (size := _id(found.get("vocab_size"))) is not None:
            return size
    return None


def _read_object(file: Path, max_bytes: int = _MAX_SMALL_BYTES) -> dict[str, Any]:
    """Empty if the file is missing, too large, or none of JSON."""
    try:
        if file.stat().st_size > max_bytes:
            return {}
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _chat_template(folder: Path, config: Mapping[str, Any]) -> str | None:
    """Its own file takes precedence, as in transformers."""
    file = folder / _TEMPLATE
    try:
        text = file.read_text("utf-8") if file.stat().st_size <= MAX_TEMPLATE_LENGTH else None
    except (OSError, ValueError):
        text = None
    if text is not None:
        return text
    found = config.get("chat_template")
    if isinstance(found, list):  # several by name
        named = {each.get("name"): each.get("template") for each in found if isinstance(each, dict)}
        found = named.get("default")
    if not isinstance(found, str) or len(found) > MAX_TEMPLATE_LENGTH:
        return None
    return found if _is_storable(found) else None


def _is_storable(text: str) -> bool:
    try:
        return "\0" not in text and bool(text.encode())
    except UnicodeEncodeError:  # half a character
        return False


def served_defaults(generation: Mapping[str, Any]) -> dict[str, Any]:
    """What may be served of defaults from elsewhere: with others vLLM refuses every request."""
    defaults: dict[str, Any] = dict(_sampling(generation))
    if ends := sorted(set(_eos_ids(generation)))[:MAX_EOS_IDS]:
        defaults["eos_token_id"] = ends
    return defaults


def _sampling(generation: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, (kind, least, most) in SAMPLING.items():
        value = generation.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if (kind is float or isinstance(value, int)) and least <= value <= most:
            yield name, value


def _eos_ids(generation: Mapping[str, Any]) -> Iterator[int]:
    found = generation.get("eos_token_id")
    for each in found if isinstance(found, list) else [found]:
        if (id_ := _id(each)) is not None:
            yield id_


def _tokenizer_digest(tokenizer: Mapping[str, Any]) -> str | None:
    if not isinstance(tokenizer.get("model"), dict):
        return None
    deciding = {name: tokenizer.get(name) for name in _DECIDING}
    merges = tokenizer["model"].get("merges")
    if isinstance(merges, list):  # written as pairs since tokenizers 0.20, as texts before
        joined = [" ".join(map(str, pair)) if isinstance(pair, list) else pair for pair in merges]
        deciding["model"] = {**tokenizer["model"], "merges": joined}
    return blake3(json.dumps(deciding, sort_keys=True).encode()).hexdigest()


def _added_tokens(
    tokenizer: Mapping[str, Any], config: Mapping[str, Any], added: Mapping[str, Any]
) -> Iterator[tuple[str, int]]:
    listed = tokenizer.get("added_tokens")
    for each in listed[:_MAX_TOKENS] if isinstance(listed, list) else []:
        if isinstance(each, dict) and (id_ := _id(each.get("id"))) is not None:
            yield str(each.get("content")), id_
    decoder = config.get("added_tokens_decoder")
    for key, each in (decoder if isinstance(decoder, dict) else {}).items():
        if key.isdecimal() and len(key) < 10 and (text := _text_of(each)) is not None:
            yield text, int(key)
    yield from ((text, id_) for text, found in added.items() if (id_ := _id(found)) is not None)


def _vocabulary_ids(tokenizer: Mapping[str, Any]) -> Iterable[int]:
    model = tokenizer.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocabulary, dict):
        return [id_ for found in vocabulary.values() if (id_ := _id(found)) is not None]
    if isinstance(vocabulary, list):  # Unigram: (text, score) by id
        return [len(vocabulary) - 1]
    return []


def _text_of(token: Any) -> str | None:
    """A token is written as its text, or as an object with `content`."""
    found = token.get("content") if isinstance(token, dict) else token
    return found if isinstance(found, str) else None


def _id(value: Any) -> int | None:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and 0 <= value < 2**31 else None
