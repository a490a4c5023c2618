"""Import report: what an import did, or would do, and why it can't."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from registry.errors import InvalidAdapter
from registry.errors.defects import Defect, Remark
from registry.inspection.inspector import Inspection
from registry.transfer.plan import AdapterPlan

_MOST_NAMED = 100
_ABOUT_THE_SERVER = {str(Remark.ENGINE_NOT_ASKED)}


@dataclass(slots=True)
class ImportReport:
    """What was changed, or would be.

    `further_numbers`: the version that each new one means, both as references. `orphans`: new
    versions whose parent is not here. `skipped`: reasons by reference. `remarks`: references of new
    versions by the code of what inspection remarked on them.
    """

    adapters_added: int = 0
    versions_added: int = 0
    versions_unchanged: int = 0
    further_numbers: dict[str, str] = field(default_factory=dict)
    aliases_set: int = 0
    aliases_kept: list[str] = field(default_factory=list)
    events_added: int = 0
    orphans: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    remarks: dict[str, list[str]] = field(default_factory=dict)


@dataclass(slots=True)
class CheckedFiles:
    """Inspections of new versions' files, by digest."""

    inspections: dict[str, Inspection] = field(default_factory=dict)
    refused: dict[str, InvalidAdapter] = field(default_factory=dict)


def report_of(plans: Sequence[AdapterPlan], checked: CheckedFiles) -> ImportReport:
    skipped = {
        _reference(plan, version.number, version.digest): error.detail
        for plan in plans
        for version in plan.manifest.versions
        if (error := checked.refused.get(version.digest)) is not None
    }
    return ImportReport(
        adapters_added=sum(plan.local is None and not plan.is_empty for plan in plans),
        versions_added=sum(len(plan.added) for plan in plans),
        versions_unchanged=sum(len(plan.unchanged) for plan in plans),
        further_numbers={
            f"{plan.manifest.name}:{number}": f"{plan.manifest.name}:{own}"
            for plan in plans
            for number, own in sorted(plan.further.items())
        },
        aliases_set=sum(
            len(plan.copied) + len(plan.moved) + (plan.default is not None) for plan in plans
        ),
        aliases_kept=[f"{plan.manifest.name}@{alias}" for plan in plans for alias in plan.kept],
        skipped=skipped,
        remarks=_remarks(plans, checked),
    )


def _remarks(plans: Sequence[AdapterPlan], checked: CheckedFiles) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for plan in plans:
        for number, version in sorted(plan.added.items()):
            inspection = checked.inspections.get(version.digest)
            remarks = () if inspection is None else inspection.report["remarks"]
            for code in sorted({remark["code"] for remark in remarks} - _ABOUT_THE_SERVER):
                references = found.setdefault(code, [])
                if len(references) < _MOST_NAMED:
                    references.append(_reference(plan, number, version.digest))
    return found


def refusal_of(plans: Sequence[AdapterPlan], refused: dict[str, InvalidAdapter]) -> InvalidAdapter:
    """The first refusal, with the number of others."""
    found = [
        (_reference(plan, number, version.digest), refused[version.digest])
        for plan in plans
        for number, version in plan.added.items()
        if version.digest in refused
    ]
    reference, error = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return InvalidAdapter(
        Defect(error.code), f"nothing was imported: {reference}: {error.detail}{more}"
    )


def _reference(plan: AdapterPlan, number: int | None, digest: str) -> str:
    return f"{plan.manifest.name}:{number or digest[:12]}"
