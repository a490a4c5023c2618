"""Suggestions after a refusal: names of the server that are written alike, or what to type next."""

import os
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from itertools import islice

from adaptry.client import AdaptryError, ApiError
from adaptry.terminal.hints import hint_of
from adaptry.terminal.options import connect_briefly

MOST_NAMES = 5000
NAMED = frozenset({"unknown_adapter", "unknown_alias", "unknown_version", "model_not_found"})
_PLACES_OF_SOURCES: dict[tuple[str, ...], int] = {("adapter", "add"): 3, ("adapter", "inspect"): 2}
_QUOTED = re.compile(r"'([^']+)'")


def suggest(error: ApiError, arguments: Sequence[str]) -> str:
    """`did you mean upper?`, or the command that shows what there is, or nothing."""
    alike = _alike(error, arguments) if error.code in NAMED else _without_asking(error, arguments)
    return alike or hint_of(error.code, error.detail)


def _alike(error: ApiError, arguments: Sequence[str]) -> str:
    quoted = _QUOTED.findall(error.detail)
    if error.code == "model_not_found" and len(quoted) > 1:  # the model, and what of it is unknown
        del quoted[0]
    name, alias, *_ = [*quoted, "", ""]
    try:
        with connect_briefly(arguments) as client:
            if error.code == "unknown_version":
                versions = islice(client.versions.list(name, page_size=500), MOST_NAMES)
                numbers = [each.number for each in versions]
                is_known = 0 < len(numbers) < MOST_NAMES  # the oldest come first
                return f"the newest is {name}:{max(numbers)}" if is_known else ""
            if alias:
                return _closest(alias, (each.alias for each in client.aliases.list(name)), name)
            adapters = islice(client.adapters.list(page_size=500), MOST_NAMES)
            return _closest(name, (each.name for each in adapters))
    except AdaptryError:
        return ""


def _without_asking(error: ApiError, arguments: Sequence[str]) -> str:
    if error.code == "source_not_allowed":
        return _advise_push(arguments)
    if error.code != "invalid_request":
        return ""
    choices = set(_QUOTED.findall(error.detail)).difference(arguments)  # else what was refused
    given = arguments[2:]  # a command's own words are no value of an option
    return next(filter(None, (_closest(each, choices) for each in given)), "")


def _advise_push(arguments: Sequence[str]) -> str:
    """For a folder that is on this machine, or is not."""
    place = _PLACES_OF_SOURCES.get(tuple(arguments[:2]), len(arguments))
    if any(map(os.path.isdir, arguments[place:])):  # a Path raises, for a long description
        return "to send the files of this machine: adaptry adapter push NAME FOLDER"
    paths = [each for each in arguments[place:] if each.startswith(("./", "../", "/"))]
    paths += [each for each in arguments[place : place + 1] if not each.startswith("-")]
    missing = next((each for each in paths if ":" not in each and not os.path.exists(each)), None)
    return "" if missing is None else f"on this machine there is no {missing}"


def _closest(wanted: str, known: Iterable[str], adapter: str = "") -> str:
    names = list(known)
    # one that is there was asked for at a time before it was
    found = [] if wanted in names else get_close_matches(wanted, names, n=2)
    shown = [f"{adapter}@{each}" if adapter else each for each in found]
    return f"did you mean {' or '.join(shown)}?" if shown else ""
