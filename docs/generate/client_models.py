"""The Python client's models and docs/openapi.json, from an application's OpenAPI document."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docs.generate.rest import Document, own_paths

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "openapi.json"
MODELS = ROOT / "adaptry" / "client" / "models.py"
HEADER = (
    '"""Models of the server\'s responses. Written by `make reference` from docs/openapi.json."""'
)
TITLE = {"openapi": "3.1.0", "info": {"title": "Adaptry", "version": "v1"}}

BASE_MODULE = "adaptry.client.models"
BASE_CLASS = '''
class ResponseModel(BaseModel):
    """A response of the server. Keeps unknown fields, which a newer server may send."""

    model_config = ConfigDict(extra="allow", defer_build=True)
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


def models(document: Document) -> str:
    """The client's module of models, for the answers of a document."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.json"), Path(folder, "models.py")
        source.write_text(json.dumps(_answers(document)), encoding="utf-8")
        tool = Path(sys.executable).with_name("datamodel-codegen")
        files = (f"--input={source}", f"--output={target}", f"--custom-file-header={HEADER}")
        subprocess.run([tool, *_OPTIONS, *files], check=True, cwd=ROOT)
        code = target.read_text(encoding="utf-8")
    code = code.replace(
        f"from {BASE_MODULE} import ResponseModel\n", "from pydantic import BaseModel, ConfigDict\n"
    )
    imports, begin, classes = code.partition("\nclass ")
    code = f"{imports}{BASE_CLASS}{begin}{classes}"
    return _by_ruff(_by_ruff(code, "check", "--fix-only", "--quiet"), "format")


def _by_ruff(code: str, *command: str) -> str:
    tool = Path(sys.executable).with_name("ruff")
    options = ("--no-cache", f"--stdin-filename={MODELS}", "-")
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
