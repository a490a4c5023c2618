"""Kubernetes objects for other routers and operators, from adapters and aliases.

`InferenceModelRewrite` is llm-d's (group llm-d.ai, v1alpha2), `ModelAdapter` is AIBrix's (group
model.aibrix.ai, v1alpha1).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from adaptry.terminal.output import Json, JsonValue
from registry.references import DEFAULT_ALIAS

if TYPE_CHECKING:
    from adaptry.client.models import AliasRead, VersionRead

REWRITE = {"apiVersion": "llm-d.ai/v1alpha2", "kind": "InferenceModelRewrite"}
ADAPTER = {"apiVersion": "model.aibrix.ai/v1alpha1", "kind": "ModelAdapter"}

_NOT_IN_NAMES = re.compile(r"[^a-z0-9-]+")
_SCHEMES = {"s3://": "s3://", "gs://": "gcs://", "hf://": "huggingface://"}


class NoArtifact(Exception):
    """The reason why no cluster could fetch a version's files."""


def model_rewrite(
    adapter: str, aliases: "Sequence[AliasRead]", pool: str, namespace: str | None
) -> Json:
    """All aliases of an adapter: each model name of clients, and the versions it means."""
    rules: list[JsonValue] = [
        {
            "matches": [{"model": {"type": "Exact", "value": _model_name(alias)}}],
            "targets": [
                {"modelRewrite": f"{adapter}:{each.version}", "weight": each.weight}
                for each in alias.weights
            ],
        }
        for alias in aliases
    ]
    spec: Json = {"poolRef": {"name": pool}, "rules": rules}
    return {**REWRITE, "metadata": _metadata(adapter, namespace), "spec": spec}


def model_adapter(
    version: "VersionRead", selector: Mapping[str, str], namespace: str | None
) -> Json:
    """One version under its adapter's name. Raises NoArtifact."""
    spec: Json = {
        "podSelector": {"matchLabels": dict(selector)},
        "artifactURL": _artifact(version),
    }
    if version.base_model is not None:
        spec["baseModel"] = version.base_model
    return {**ADAPTER, "metadata": _metadata(version.adapter, namespace), "spec": spec}


def _model_name(alias: "AliasRead") -> str:
    return alias.adapter if alias.alias == DEFAULT_ALIAS else f"{alias.adapter}@{alias.alias}"


def _metadata(adapter: str, namespace: str | None) -> Json:
    name = _NOT_IN_NAMES.sub("-", adapter).strip("-")
    return {"name": name} if namespace is None else {"name": name, "namespace": namespace}


def _artifact(version: "VersionRead") -> str:
    """AIBrix supports buckets, the Hub without a revision, and folders of a pod."""
    source = version.source
    for scheme, theirs in _SCHEMES.items():
        if source.startswith(scheme):
            location, at, revision = source.removeprefix(scheme).partition("@")
            if at and scheme == "hf://":
                raise NoArtifact(f"ModelAdapter can't name the revision {revision} of {location}")
            return theirs + source.removeprefix(scheme)
    if source.startswith("/"):
        return source
    raise NoArtifact(f"its source is {source}")


def duplicate_names(objects: Iterable[Json]) -> list[str]:
    """Names of more than one object, which Kubernetes would treat as one."""
    seen: dict[str, int] = {}
    for each in objects:
        metadata = each["metadata"]
        assert isinstance(metadata, dict)
        name = str(metadata["name"])
        seen[name] = seen.get(name, 0) + 1
    return [name for name, count in seen.items() if count > 1]
