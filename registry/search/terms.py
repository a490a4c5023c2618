"""How texts become words: the same for what is written and for what is searched."""

import re
import unicodedata
from collections.abc import Iterable

from registry.models import Adapter, Version
from registry.models.search import MAX_TERM_LENGTH, TermKind

_WORD = re.compile(r"[^\W_]+")

Terms = set[tuple[TermKind, str]]


def words(*texts: str | None) -> list[str]:
    """Letters and digits without regard to case and to forms of the same letter, in order."""
    joined = unicodedata.normalize("NFKC", " ".join(filter(None, texts)))
    folded = unicodedata.normalize("NFKC", joined.casefold())
    return [word[:MAX_TERM_LENGTH] for word in _WORD.findall(folded)]


def adapter_terms(adapter: Adapter) -> Terms:
    """By what an adapter is found."""
    texts = words(adapter.name, adapter.description, adapter.owner, *adapter.tags)
    return _of(TermKind.TAG, adapter.tags) | _of(TermKind.WORD, texts)


def version_terms(adapter_name: str, version: Version) -> Terms:
    """By what a version is found."""
    texts = words(
        adapter_name, version.description, version.training_run, version.dataset, *version.tags
    )
    return (
        _of(TermKind.TAG, version.tags)
        | _of(TermKind.TARGET_MODULE, version.target_modules)
        | _of(TermKind.WORD, texts)
    )


def _of(kind: TermKind, values: Iterable[str]) -> Terms:
    return {(kind, value[:MAX_TERM_LENGTH]) for value in values}
