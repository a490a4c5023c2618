"""How inspection's verdict looks on a terminal."""

from adaptry.client.models import AdapterFacts, VerdictRead
from adaptry.terminal.output import Json, show_fields, size


def show_verdict(verdict: VerdictRead) -> None:
    """What the adapter is, or one line for each thing that is wrong."""
    if verdict.adapter is not None:
        print("accepted")
        _show_facts(verdict.adapter)
        return
    print("refused")
    for problem in verdict.problems:
        times = "" if problem.count == 1 else f" ({problem.count} times)"
        print(f"{problem.code}: {problem.detail}{times}")


def _show_facts(facts: AdapterFacts) -> None:
    shown: Json = facts.model_dump(mode="json", exclude={"inspection", "size_bytes"})
    report = facts.inspection
    shown["size"] = size(facts.size_bytes)
    for name in ("modules", "tensors", "parameters", "shapes_checked", "engine"):
        shown[name] = getattr(report, name)
    show_fields(shown)
    for remark in report.remarks:
        print(f"note: {remark.detail} [{remark.code}]")
