"""Missing routes: what a 404 without a code of ours means, and which server would answer."""

from collections.abc import Callable, Sequence

from adaptry.client import AdaptryError, ApiError
from adaptry.terminal.options import connect_briefly, server_of

_NOT_OURS = "what answers at {0} is no server of Adaptry: name one with --server URL"
_NO_ENGINE = (
    "{0} has no engine, and so no cache: ask a server that `adaptry serve` started, with "
    "--server URL; `adaptry adapter list` shows what is registered here"
)
_OTHER_RELEASE = (
    "{0} can't do this: it is of another release, or several engines answer there as one server"
)
_SLASHED = (
    "{0!r} can be no adapter's name, as it has a '/'; clients may write it once it is a served "
    "name: `adaptry adapter name NAME {0}`"
)
_OF_ENGINES = frozenset({"bench", "cache", "size", "trace", "why"})
_NAME_FIRST = frozenset({"diff", "undo", "why"})
_NAME_SECOND = frozenset({"adapter", "cache", "tenant"})
_OF_FILES = frozenset({"export", "import", "inspect"})


def is_missing_route(error: ApiError) -> bool:
    """What a route of ours does not find has a code, or OpenAI's form."""
    return error.status == 404 and error.code in {"", "not_found"} and "error" not in error.problem


def explain_missing_route(arguments: Sequence[str]) -> str:
    """One line: what is wrong with the name, or else with the server."""
    if "/" in (name := _name_in(arguments)):
        return _SLASHED.format(name)
    return explain_server(arguments)


def explain_server(arguments: Sequence[str]) -> str:
    """Why it does not say what the command asks for."""
    server = server_of(arguments)
    with connect_briefly(arguments) as client:
        if not _is_there(lambda: next(iter(client.adapters.list(page_size=1)), None)):
            return _NOT_OURS.format(server)
        if arguments[0] in _OF_ENGINES and not _is_there(client.cache.show):
            return _NO_ENGINE.format(server)
    return _OTHER_RELEASE.format(server)


def _name_in(arguments: Sequence[str]) -> str:
    """What the command line calls an adapter, or nothing."""
    command, *rest = arguments
    if command in _NAME_SECOND and rest[:1] and rest[0] not in _OF_FILES:
        del rest[0]
    elif command not in _NAME_FIRST:
        return ""
    return "" if not rest or rest[0].startswith("-") else rest[0]


def _is_there(ask: Callable[[], object]) -> bool:
    """Whether it is answered, or refused by a server of ours."""
    try:
        ask()
    except ApiError as error:
        return bool(error.code) and not is_missing_route(error)
    except AdaptryError:
        return False
    return True
