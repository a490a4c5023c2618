"""docs/reference matches the code, and is complete."""

import ast
import re
from types import ModuleType

import pytest

from docs.generate.errors import SECTIONS, explained
from docs.generate.pages import FOLDER, plain_pages
from docs.generate.schemas import kind_of
from docs.generate.settings import setting_classes
from tests.support.docs.page_blocks import ROOT

PAGES = plain_pages()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_generator_writes(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == PAGES[name], "make reference"


@pytest.mark.parametrize(("heading", "module", "base"), SECTIONS)
def test_every_error_is_explained(heading: str, module: ModuleType, base: type) -> None:
    errors = {
        name: error
        for name, error in vars(module).items()
        if isinstance(error, type) and issubclass(error, base) and error is not base
    }
    assert set(explained(module)) == set(errors), heading
    for name, (status, _) in explained(module).items():
        own = getattr(errors[name], "status", None)
        assert int(status) in (own, 410), name  # VersionUnavailable decides by the state


def test_every_class_of_settings_is_on_the_page() -> None:
    shown = {settings.__name__ for _, settings in setting_classes()}
    assert shown == set(classes_derived_from("BaseSettings"))


def classes_derived_from(base: str) -> list[str]:
    packages = [ROOT / name for name in ("registry", "engine", "guest", "adaptry")]
    trees = [ast.parse(path.read_text()) for folder in packages for path in folder.rglob("*.py")]
    return [
        node.name
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and any(isinstance(each, ast.Name) and each.id == base for each in node.bases)
    ]


def test_every_setting_has_a_description() -> None:
    rows = re.findall(r"^\| `ADAPTRY_\w+` \|.*$", PAGES["settings.md"], re.MULTILINE)
    assert len(rows) == sum(len(settings.model_fields) for _, settings in setting_classes())
    assert all(row.rstrip(" |").endswith((".", "…")) for row in rows)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer", "minimum": 1.0, "maximum": 500}, "integer, ≥ 1, ≤ 500"),
        (
            {"anyOf": [{"$ref": "#/components/schemas/Job"}, {"type": "null"}]},
            "[Job](#job) or null",
        ),
        ({"type": "array", "items": {"enum": ["a", "b"]}}, "list of `a`, `b`"),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "object of integer"),
        ({"type": "string", "format": "date-time"}, "time"),
        ({}, "any JSON"),
    ],
)
def test_a_type_in_words(schema: dict[str, object], words: str) -> None:
    assert kind_of(schema) == words
