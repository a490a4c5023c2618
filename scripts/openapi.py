"""Writes docs/openapi.json, and from it the models of the Python client.

`python -m scripts.openapi`. Needs no engine: the routes are described, never called.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from fastapi import APIRouter, FastAPI

from engine.api import create_cache_router
from engine.decision_api import create_decision_router
from engine.probe import create_probe_router
from registry.api import create_router
from registry.artifacts import ArtifactStore
from registry.base_model import BaseModel
from registry.db import Database
from registry.event_api import create_event_router
from registry.ingest_api import create_ingest_router
from registry.service import RegistryService
from registry.webhook_api import create_webhook_router

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "openapi.json"
MODELS = ROOT / "registry" / "client" / "models.py"
HEADER = '"""What the server answers. Written by `make openapi` from docs/openapi.json."""'

Json = dict[str, Any]

_NOBODY = cast("Any", None)  # who would answer, if anybody asked
_OPTIONS = (
    "--input-file-type=openapi",
    "--output-model-type=pydantic_v2.BaseModel",
    "--target-python-version=3.11",
    "--enum-field-as-literal=all",
    "--use-type-alias",
    "--strict-nullable",
    "--base-class=registry.client.answer.Answer",
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


def routers() -> Iterator[APIRouter]:
    """Every route of ours, in the order in which a reader wants them."""
    service = RegistryService(
        Database("sqlite+aiosqlite://"),
        ArtifactStore(Path(), source_roots=(), max_bytes=1),
        BaseModel("any", None),
        max_rank=1,
    )
    yield create_router(service)
    yield create_ingest_router(_NOBODY)
    yield create_probe_router(_NOBODY, _NOBODY)
    yield create_event_router(_NOBODY, _NOBODY)
    yield create_webhook_router(_NOBODY)
    yield create_cache_router(_NOBODY, _NOBODY, _NOBODY)
    yield create_decision_router(_NOBODY, _NOBODY, _NOBODY, _NOBODY)


def document() -> Json:
    """What the server's own /openapi.json says of /api/v1."""
    app = FastAPI(title="Adaptry", version=version("adaptry"))
    for router in routers():
        app.include_router(router)
    return app.openapi()


def written(content: Json) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def models(described: Json) -> str:
    """The client's module of models, for the answers of a document."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.json"), Path(folder, "models.py")
        source.write_text(json.dumps(_answers(described)), encoding="utf-8")
        tool = Path(sys.executable).with_name("datamodel-codegen")
        files = (f"--input={source}", f"--output={target}", f"--custom-file-header={HEADER}")
        subprocess.run([tool, *_OPTIONS, *files], check=True, cwd=ROOT)
        code = target.read_text(encoding="utf-8")
    return _by_ruff(_by_ruff(code, "check", "--fix-only", "--quiet"), "format")


def _by_ruff(code: str, *command: str) -> str:
    tool = Path(sys.executable).with_name("ruff")
    options = ("--no-cache", f"--stdin-filename={MODELS}", "-")
    done = subprocess.run(
        [tool, *command, *options], input=code, text=True, check=True, cwd=ROOT, capture_output=True
    )
    return done.stdout


def _answers(described: Json) -> Json:
    """A document of nothing but enumerations and what answers are made of, without titles."""
    schemas: Json = described["components"]["schemas"]
    found = {name: schema for name, schema in schemas.items() if "enum" in schema}

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

    for operation in _operations(described):
        follow([answer for code, answer in operation["responses"].items() if code[0] == "2"])
    ordered = {name: _untitled(schemas[name]) for name in schemas if name in found}
    return {**described, "paths": {}, "components": {"schemas": ordered}}


def _operations(described: Json) -> Iterator[Json]:
    for path in described["paths"].values():
        yield from path.values()


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


def main() -> None:
    described = document()
    DOCUMENT.write_text(written(described), encoding="utf-8")
    MODELS.parent.mkdir(exist_ok=True)
    MODELS.write_text(models(described), encoding="utf-8")


if __name__ == "__main__":
    main()
