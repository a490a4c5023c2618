"""How inspection's verdict looks on a terminal."""

from adaptry.output import show_fields, size, text
from adaptry.rest import Json, items


def show_verdict(verdict: Json) -> None:
    """What the adapter is, or one line for each thing that is wrong."""
    facts = verdict.get("adapter")
    if isinstance(facts, dict):
        print("accepted")
        _show_facts(facts)
        return
    print("refused")
    for problem in items(verdict, "problems"):
        count = problem.get("count")
        times = "" if count == 1 else f" ({text(count)} times)"
        print(f"{text(problem.get('code'))}: {text(problem.get('detail'))}{times}")


def _show_facts(facts: Json) -> None:
    report = facts.pop("inspection", None)
    report = report if isinstance(report, dict) else {}
    facts["size"] = size(facts.pop("size_bytes", None))
    for name in ("modules", "tensors", "parameters", "shapes_checked", "engine"):
        facts[name] = report.get(name)
    show_fields(facts)
    for remark in items(report, "remarks"):
        print(f"note: {text(remark.get('detail'))} [{text(remark.get('code'))}]")
