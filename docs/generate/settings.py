"""The page of settings, from the pydantic classes that read them."""

import inspect
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python
from pydantic_settings import BaseSettings

from adaptry.terminal.output import size
from docs.generate.markdown import code, page, table
from docs.generate.schemas import kind_of
from engine import settings as engine_settings
from fleet.options import FleetOptions
from guest import settings as guest_settings
from registry import settings as registry_settings

INTRODUCTION = """\
Settings are read once, at startup, from the environment; `adaptry serve` has
[options](cli.md#adaptry-serve) for some of them, and an option wins. An invalid value prevents
startup with a one-line message. Lists are written as JSON: `ADAPTRY_SOURCE_URLS='["hf://my-org"]'`.

Slots, places in host memory and the largest rank are vLLM's own arguments: `--max-loras`,
`--max-cpu-loras`, `--max-lora-rank`."""

PROFILES = """\
## Profiles

`adaptry serve --profile FILE.yaml` reads a file with two sections: `adaptry` takes the engine's
settings below by their names in lowercase and without the prefix, `vllm` any argument of
`vllm serve` except model, host and port.
The command line wins over the file, and the file over the environment."""

SECTIONS = (
    ("Engine", engine_settings),
    ("Registry", registry_settings),
    ("Guest", guest_settings),
)


def setting_classes() -> list[tuple[str, type[BaseSettings]]]:
    """Each with its heading, in the order of the page."""
    return [
        (heading, found)
        for heading, module in SECTIONS
        for _, found in inspect.getmembers(module, inspect.isclass)
        if issubclass(found, BaseSettings) and found.__module__ == module.__name__
    ]


def setting_page() -> str:
    sections = [
        part
        for heading, settings in setting_classes()
        for part in (f"## {heading}", settings.__doc__ or "", _table(settings))
    ]
    replicas = ("## Replicas", inspect.getdoc(FleetOptions) or "", _table(FleetOptions, "option"))
    return page("Settings", INTRODUCTION, PROFILES, *sections, *replicas)


def _table(settings: type[BaseModel], kind: str = "variable") -> str:
    prefix = str(settings.model_config.get("env_prefix", ""))
    schema = settings.model_json_schema()
    schemas = _in_place(schema["properties"], schema.get("$defs", {}))
    rows = [
        (
            code((prefix + name).upper() if kind == "variable" else name),
            kind_of(schemas[name]),
            _default(name, field),
            field.description,
        )
        for name, field in settings.model_fields.items()
    ]
    return table((kind, "type", "default", "meaning"), [(*row[:3], row[3] or "") for row in rows])


def _in_place(node: Any, definitions: dict[str, Any]) -> Any:
    """With what is referred to in the place of its reference: the page has no such section."""
    if isinstance(node, list):
        return [_in_place(each, definitions) for each in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _in_place(definitions[node["$ref"].rpartition("/")[2]], definitions)
    return {key: _in_place(value, definitions) for key, value in node.items()}


def _default(name: str, field: FieldInfo) -> str:
    default: Any = field.get_default(call_default_factory=True, validated_data={})
    if default is PydanticUndefined:
        return "required"
    if default is None:
        return "none"
    if isinstance(default, str | Path):
        return code(str(default))
    if name.endswith("_bytes"):
        return f"{code(str(default))} ({size(default)})"
    return code(json.dumps(to_jsonable_python(default)))
