"""One rule takes versions out of service: no module but those listed may do it."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[3]
PACKAGES = ("registry", "engine", "fleet", "guest", "adaptry")
QUARANTINES = {
    "registry/lifecycle/condemnation.py",  # the server, on proof
    "registry/api/lifecycle.py",  # an operator
    "adaptry/commands/lifecycle.py",  # an operator, by the client
}
SETS_STATES = {"registry/lifecycle/service.py", "registry/ingest/publish.py"}


def callers(name: str) -> set[str]:
    """Modules that call something of this name."""
    found = set()
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    called = node.func
                    if getattr(called, "attr", getattr(called, "id", None)) == name:
                        found.add(path.relative_to(ROOT).as_posix())
    return found


def test_a_version_is_quarantined_by_the_rule_or_by_an_operator() -> None:
    assert callers("quarantine") == QUARANTINES


def test_states_change_in_the_lifecycle_and_where_files_are_registered_again() -> None:
    assert callers("change_state") == SETS_STATES
