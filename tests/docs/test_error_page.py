"""docs/reference/errors.md has every code that the code answers with, wherever it stands."""

import ast
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from docs.generate.errors import SECTIONS, error_page
from tests.support.docs.page_blocks import ROOT

PACKAGES = ("registry", "engine", "fleet", "guest", "adaptry")
CODE = re.compile(r"[a-z]+(_[a-z]+)+")
ON_OTHER_PAGES = ("inspection.md", "transfer.md")
OF_BASE_CLASSES = frozenset({"registry_error", "engine_error"})
ANTHROPICS = Path("registry/http/dialects.py")  # types of errors there, not codes


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))


MODULES = dict(modules())


def codes_in(*parts: ast.AST | None) -> Iterator[str]:
    for node in chain.from_iterable(ast.walk(part) for part in parts if part is not None):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from (node.value,) if CODE.fullmatch(node.value) else ()


def is_status(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and node.value in range(400, 600)


def is_named_code(target: ast.expr) -> bool:
    return "code" in (getattr(target, "id", None), getattr(target, "attr", None))


def codes_of(node: ast.AST) -> Iterator[str]:
    """`code = "…"`, `code="…"`, `refuse(404, "…")`, `{404: "…"}` and `CODES.get(…, "…")`."""
    match node:
        case ast.Assign(targets=targets, value=value) if any(map(is_named_code, targets)):
            yield from codes_in(value)
        case ast.AnnAssign(target=target, value=value) if is_named_code(target):
            yield from codes_in(value)
        case ast.Dict(keys=[_, *_], values=values) if all(map(is_status, node.keys)):
            yield from codes_in(*values)
        case ast.Call(func=func, args=args, keywords=keywords):
            yield from codes_in(*(each.value for each in keywords if each.arg == "code"))
            is_table = isinstance(func, ast.Attribute) and ast.unparse(func).endswith("CODES.get")
            if is_table or (args and is_status(args[0])):
                yield from codes_in(*args[1:2])


def test_every_code_in_the_code_is_on_a_page() -> None:
    used: dict[str, Path] = {}
    for path, tree in MODULES.items():
        if path != ANTHROPICS:
            for node in ast.walk(tree):
                used.update(dict.fromkeys(codes_of(node), path))
    assert {"generation_unsupported", "header_timeout", "not_found", "body_too_large"} <= set(used)
    pages = [error_page(), *((ROOT / "docs" / name).read_text() for name in ON_OTHER_PAGES)]
    anthropics = set(codes_in(MODULES[ANTHROPICS]))
    missing = {
        code: str(path)
        for code, path in used.items()
        if not any(f"`{code}`" in page for page in pages)
    }
    assert set(missing) - OF_BASE_CLASSES - anthropics == set(), missing


def test_every_error_with_a_code_is_in_the_module_that_the_page_is_made_from() -> None:
    """An error that is defined beside its route would be on no page, and in no metric's label."""
    homes = {
        base.__name__: Path("registry/errors") if "registry" in base.__module__ else
        Path("engine/errors")
        for _, _, base in SECTIONS
    }  # fmt: skip
    strays: list[str] = []
    for base, home in homes.items():
        for path, name in derived_from(base):
            if not path.is_relative_to(home):
                strays.append(f"{path}: {name}")
    assert strays == []


def derived_from(base: str) -> list[tuple[Path, str]]:
    """Classes in all packages that are based on it, or on one that is."""
    found: dict[str, Path] = {}
    kinds = {base}
    while True:
        more = {
            node.name: path
            for path, tree in MODULES.items()
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef)
            and node.name not in found
            and any(ast.unparse(each).rpartition(".")[2] in kinds for each in node.bases)
        }
        if not more:
            return [(path, name) for name, path in found.items()]
        found.update(more)
        kinds.update(more)
