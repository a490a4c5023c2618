"""Parquet form of a trace: one row for each line, with the fields of all kinds as columns."""

from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

BATCH = 50_000
_INTEGERS = (
    "format",
    "slots",
    "host_places",
    "host_bytes",
    "max_rank",
    "max_loads",
    "version",
    "prompt_tokens",
    "generated_tokens",
    "load_bytes",
    "size_bytes",
    "rank",
)
_NUMBERS = (
    "at",
    "slot_wait_seconds",
    "wait_seconds",
    "load_seconds",
    "first_token_seconds",
    "seconds",
)
_TEXTS = (
    "kind",
    "server",
    "base",
    "eviction_policy",
    "adapter",
    "tenant",
    "outcome",
    "source",
    "transition",
)


def write_parquet(path: Path, lines: Iterable[Mapping[str, Any]]) -> int:
    """Returns how many. Raises OSError; ModuleNotFoundError without the extra [parquet]."""
    arrow: Any = import_module("pyarrow")
    parquet: Any = import_module("pyarrow.parquet")
    schema = arrow.schema(
        [(name, arrow.string()) for name in _TEXTS]
        + [(name, arrow.int64()) for name in _INTEGERS]
        + [(name, arrow.float64()) for name in _NUMBERS]
    )
    count, coming = 0, iter(lines)
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        while batch := list(islice(coming, BATCH)):
            writer.write_table(arrow.Table.from_pylist(batch, schema=schema))
            count += len(batch)
    return count


def read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    """Raises OSError, ValueError; ModuleNotFoundError without the extra [parquet]."""
    parquet: Any = import_module("pyarrow.parquet")
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH):
            yield from batch.to_pylist()
