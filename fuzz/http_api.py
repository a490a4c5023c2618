"""schemathesis over the OpenAPI document of a running server: no failure and no 5xx."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fuzz.processes import ROOT, free_port, stopped_at_end

CONFIGURATION = ROOT / "fuzz" / "schemathesis.toml"


@dataclass(frozen=True, slots=True)
class FuzzedServer:
    url: str
    key: str


@contextmanager
def registry_server(folder: Path, *, require_keys: bool = False) -> Iterator[FuzzedServer]:
    """`fuzz.registry_server` in a separate process."""
    port = free_port()
    command = [sys.executable, "-m", "fuzz.registry_server", str(folder), str(port)]
    if require_keys:
        command.append("--require-keys")
    with stopped_at_end(command, ROOT) as process:
        assert process.stdout
        key = process.stdout.readline().decode().strip()
        if not key:
            raise RuntimeError("the server did not start")
        yield FuzzedServer(f"http://127.0.0.1:{port}", key)


def fuzz(
    url: str, *, examples: int, seed: int, options: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """One run of schemathesis in a separate process: 0 if nothing was found."""
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIGURATION)),
        *("run", f"{url}/openapi.json", "--max-examples", str(examples), "--seed", str(seed)),
        *("--wait-for-schema", "60"),
        *options,
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
