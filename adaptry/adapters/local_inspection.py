"""Inspection of a folder on this machine, where the server can't read it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from adaptry.client import ApiError, NoAnswer
from adaptry.terminal.errors import CommandError

if TYPE_CHECKING:
    from adaptry.client import Client
    from adaptry.client.models import VerdictRead

NOT_READ = frozenset({"source_not_allowed", "source_missing", "source_not_found"})
ANY_RANK = 2**31


def inspect_there_or_here(client: "Client", folder: Path) -> "VerdictRead":
    """The server's verdict, which knows its base model; else that of this machine."""
    try:
        return client.adapters.inspect(str(folder.absolute()))
    except (ApiError, NoAnswer) as error:
        unread = isinstance(error, NoAnswer) or error.code in NOT_READ
        if not unread or not folder.is_dir():
            raise
        print("the server can't read it: inspected here, without its base model", file=sys.stderr)
        return inspect_here(folder)


def inspect_here(folder: Path) -> "VerdictRead":
    """Raises CommandError if there is no such folder."""
    from adaptry.client.models import VerdictRead
    from registry.catalog.schemas import InspectionRead
    from registry.inspection.base_model import BaseModel
    from registry.inspection.inspector import judge_adapter

    if not folder.is_dir():
        raise CommandError(f"there is no folder {folder}")
    verdict = judge_adapter(folder, BaseModel("any", None), ANY_RANK)
    facts = verdict.inspection
    report = InspectionRead.model_validate(facts.report) if facts else None
    return VerdictRead.model_validate(
        {
            "accepted": facts is not None,
            "problems": [
                {"code": each.code, "detail": each.detail, "count": verdict.counts[each.code]}
                for each in verdict.problems
            ],
            "adapter": facts
            and report
            and {
                "kind": report.kind,
                "rank": facts.rank,
                "alpha": facts.alpha,
                "target_modules": list(facts.target_modules),
                "dtype": facts.dtype,
                "base_model": facts.base_model,
                "size_bytes": facts.size_bytes,
                "inspection": report.model_dump(mode="json"),
            },
        }
    )
