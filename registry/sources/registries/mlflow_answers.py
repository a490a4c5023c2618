"""MLflow answers: fields of what a server said that may be no MLflow. Each raises MlflowError."""

import re
from datetime import UTC, datetime
from typing import Any

from registry.references import MAX_VERSION

Fields = dict[str, Any]

FOREIGN = "does not speak MLflow's API"

_MAX_SHOWN = 500
_UNUSABLE = re.compile(r"[\0\ud800-\udfff]")  # no database has room for these


class MlflowError(Exception):
    """What MLflow answered, or that it did not. `status`: its answer's, if there was one."""

    def __init__(self, detail: str, status: int | None = None) -> None:
        super().__init__(detail)
        self.status = status


def text_of(answer: Any, *fields: str) -> str:
    """What is in this field of the object, or of the one within."""
    for field in fields:
        if not isinstance(answer, dict) or answer.get(field) in (None, ""):
            raise _foreign(f"an answer has no {'.'.join(fields)}")
        answer = answer[field]
    text = str(answer)
    if _UNUSABLE.search(text):
        raise _foreign(f"{'.'.join(fields)} holds what is no text")
    return text


def printable(text: str) -> str:
    """What a server said, to be shown and stored: on one line, shortened."""
    shown = text[:_MAX_SHOWN]
    return "".join(each if each.isprintable() else " " for each in shown)


def number_of(version: Fields) -> int:
    try:
        number = int(text_of(version, "version"))
    except ValueError:
        number = 0
    if not 0 < number <= MAX_VERSION:
        raise _foreign("a version has no number")
    return number


def time_of(fields: Fields) -> datetime:
    """When it was made: MLflow counts milliseconds since 1970."""
    try:
        return datetime.fromtimestamp(int(text_of(fields, "creation_timestamp")) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        raise _foreign("a creation_timestamp is no time") from None


def size_of(file: Fields) -> int:
    try:
        return int(file.get("file_size") or 0)
    except (ValueError, TypeError, OverflowError):
        raise _foreign("a file has no size") from None


def list_of(answer: Fields, field: str) -> list[Fields]:
    """Empty if there is none."""
    found = answer.get(field) or []
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise _foreign(f"{field} is no list of objects")
    return found


def _foreign(why: str) -> MlflowError:
    return MlflowError(f"the server {FOREIGN}: {why}")
