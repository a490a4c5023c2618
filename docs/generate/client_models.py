"""The Python client's models and docs/openapi.json, from an application's OpenAPI document."""

import ast
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from docs.generate.rest import Document, own_paths

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "openapi.json"
MODELS = ROOT / "adaptry" / "client" / "models"
TITLE = {"openapi": "3.1.0", "info": {"title": "Adaptry", "version": "v1"}}

PACKAGE = "adaptry.client.models"
BASE_MODULE = f"{PACKAGE}.response"
SHARED, HISTORY = "shared", "history"
_WRITTEN = "Written by `make reference` from docs/openapi.json."
_BASE = f'''
"""Response model: what all models of the server's responses are.

{_WRITTEN}
"""

from pydantic import BaseModel, ConfigDict


class ResponseModel(BaseModel):
    """A response of the server. Keeps unknown fields, which a newer server may send."""

    model_config = ConfigDict(extra="allow", defer_build=True)
'''
_PACKAGE = '''
"""Models of the server's responses, in one module for each group of routes.

{written}
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
{imports}

__all__ = {names}

_MODULES = {modules}

if not TYPE_CHECKING:  # which would take any name for one that is here

    def __getattr__(name: str) -> object:
        """A module is imported when one of its classes is: to make all of them takes 20 ms."""
        if name not in _MODULES:
            raise AttributeError(f"module {{__name__!r}} has no attribute {{name!r}}")
        return getattr(import_module(f"{{__name__}}.{{_MODULES[name]}}"), name)


def __dir__() -> list[str]:
    return sorted({{*globals(), *__all__}})
'''

_OPTIONS = (
    "--input-file-type=openapi",
    "--output-model-type=pydantic_v2.BaseModel",
    "--target-python-version=3.11",
    "--enum-field-as-literal=all",
    "--use-type-alias",
    "--strict-nullable",
    f"--base-class={BASE_MODULE}.ResponseModel",
    "--use-standard-collections",
    "--use-union-operator",
    "--use-double-quotes",
    "--use-schema-description",
    "--use-single-line-docstring",
    "--use-exact-imports",
    "--disable-future-imports",
    "--disable-timestamp",
    "--keep-model-order",
    "--no-formatters",
)


def own_document(described: Document) -> Document:
    """Of an application's document, our routes and what they are made of, in a fixed order."""
    paths = own_paths(described)
    schemas = _reached(paths, described["components"]["schemas"])
    ordered = {name: schemas[name] for name in sorted(schemas)}
    return {
        **TITLE,
        "paths": {path: paths[path] for path in sorted(paths)},
        "components": {"schemas": ordered},
    }


def written(document: Document) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def models(document: Document) -> dict[str, str]:
    """The client's modules of models by their names, for the answers of a document."""
    imports, classes = _classes(document)
    places = _places(document, classes)
    by_module: dict[str, dict[str, str]] = {}
    for name, code in classes.items():
        by_module.setdefault(places[name], {})[name] = code
    written = {
        module: _module(module, imports, found, places) for module, found in by_module.items()
    }
    places = {"ResponseModel": "response", **places}
    package = _PACKAGE.format(
        written=_WRITTEN,
        imports="\n".join(
            f"    from {PACKAGE}.{place} import {name}" for name, place in places.items()
        ),
        names=repr(sorted(places)),
        modules=repr(dict(sorted(places.items()))),
    )
    written |= {"response": _BASE, "__init__": package}
    return {f"{module}.py": _formatted(code.lstrip()) for module, code in sorted(written.items())}


def write_models(document: Document) -> None:
    written = models(document)
    for path in MODELS.glob("*.py"):
        if path.name not in written:
            path.unlink()
    for name, code in written.items():
        (MODELS / name).write_text(code, encoding="utf-8")


def _classes(document: Document) -> tuple[str, dict[str, str]]:
    """The imports, and the code of each class by its name, each after those that it is made of."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.json"), Path(folder, "models.py")
        source.write_text(json.dumps(_answers(document)), encoding="utf-8")
        tool = Path(sys.executable).with_name("datamodel-codegen")
        files = (f"--input={source}", f"--output={target}")
        subprocess.run([tool, *_OPTIONS, *files], check=True, cwd=ROOT)
        code = target.read_text(encoding="utf-8")
    imports: list[str] = []
    classes: dict[str, str] = {}
    for node in ast.parse(code).body:
        segment = ast.get_source_segment(code, node) or ""
        if isinstance(node, ast.ClassDef):
            classes[node.name] = segment
        elif isinstance(node, ast.Assign):
            classes[ast.unparse(node.targets[0])] = segment
        elif isinstance(node, ast.ImportFrom):
            imports.append(segment)
    return "\n".join(imports), classes


def _places(document: Document, names: Iterable[str]) -> dict[str, str]:
    """The module of each class: the group of routes that alone uses it, or the shared one."""
    users: dict[str, set[str]] = {name: set() for name in names}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            is_past = path.startswith("/api/v1/cache/history")
            group = HISTORY if is_past else operation["tags"][0]
            for name in _reached(operation, document["components"]["schemas"]):
                users.get(name, set()).add(group)
    return {name: next(iter(of)) if len(of) == 1 else SHARED for name, of in users.items()}


def _module(module: str, imports: str, classes: dict[str, str], places: dict[str, str]) -> str:
    title = "several groups of routes" if module == SHARED else f"the routes of {module}"
    others = [
        f"from {PACKAGE}.{place} import {name}" for name, place in places.items() if place == SHARED
    ]
    head = f'"""Models of the responses of {title}.\n\n{_WRITTEN}\n"""'
    return "\n".join([head, imports, *(others if module != SHARED else ()), *classes.values()])


def _formatted(code: str) -> str:
    """Without the imports that a module does not need."""
    return _by_ruff(_by_ruff(code, "check", "--fix-only", "--quiet"), "format")


def _by_ruff(code: str, *command: str) -> str:
    tool = Path(sys.executable).with_name("ruff")
    options = ("--no-cache", f"--stdin-filename={MODELS / 'any.py'}", "-")
    done = subprocess.run(
        [tool, *command, *options], input=code, text=True, check=True, cwd=ROOT, capture_output=True
    )
    return done.stdout


def _answers(document: Document) -> Document:
    """A document of nothing but enumerations and what answers are made of, without titles."""
    schemas: Document = document["components"]["schemas"]
    answers = [
        answer
        for operation in _operations(document)
        for code, answer in operation["responses"].items()
        if code[0] == "2"
    ]
    found = {name for name, schema in schemas.items() if "enum" in schema}
    found |= set(_reached(answers, schemas))
    wanted = {name: _untitled(schemas[name]) for name in schemas if name in found}
    return {**document, "paths": {}, "components": {"schemas": wanted}}


def _operations(document: Document) -> Iterator[Document]:
    for path in document["paths"].values():
        yield from path.values()


def _reached(node: object, schemas: Document) -> Document:
    """Those that the node refers to, and those that these refer to."""
    found: Document = {}

    def follow(node: object) -> None:
        if isinstance(node, dict):
            name = str(node.get("$ref", "")).rpartition("/")[2]
            if name and name not in found:
                found[name] = schemas[name]
                follow(schemas[name])
            follow(list(node.values()))
        elif isinstance(node, list):
            for entry in node:
                follow(entry)

    follow(node)
    return found


def _untitled(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_untitled(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    left_out = {"title", "description"} if "enum" in schema else {"title"}
    return {
        key: _untitled(value)
        for key, value in schema.items()
        if key not in left_out or not isinstance(value, str)
    }
