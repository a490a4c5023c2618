"""Rows of a resolution: the versions that a reference may mean, and what they were trained with."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row

from registry.catalog.repository import TRAINING, RegistryRepository
from registry.errors import UnknownAlias, UnknownVersion
from registry.models import Adapter
from registry.references import DEFAULT_ALIAS, AdapterReference


async def select_training(
    repository: RegistryRepository, adapter: Adapter, rows: Sequence[Row[*tuple[Any, ...]]]
) -> dict[int, dict[str, Any]]:
    """What is served of what the versions were trained with, by version number."""
    served = [name for name in TRAINING if getattr(adapter, f"serve_{name}")]
    if not served:
        return {}
    found = await repository.training([row.id for row in rows])
    return {row.number: {name: getattr(row, name) for name in served} for row in found}


async def select_rows(
    repository: RegistryRepository, adapter_id: int, reference: AdapterReference
) -> Sequence[Row[*tuple[Any, ...]]]:
    if reference.version is not None:
        rows = await repository.resolved_version(adapter_id, reference.version)
        if not rows:
            raise UnknownVersion(reference.adapter, reference.version)
        return rows
    alias = reference.alias or DEFAULT_ALIAS
    rows = await repository.resolved_alias(adapter_id, alias)
    if not rows:
        raise UnknownAlias(reference.adapter, alias)
    return rows
