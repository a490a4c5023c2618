"""Server: `adaptry serve` over the demo model, in a process of its own, with one adapter."""

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 240.0


@contextlib.contextmanager
def running_server(folder: Path, *arguments: str) -> Iterator[tuple[str, Path]]:
    """Its address and its log. `arguments`: more of them, for `adaptry serve`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        *(sys.executable, "-m", "adaptry", "serve", str(ROOT / "demo" / "base")),
        *("--profile", "demo", "--dtype", "float32", "--port", str(port)),
        *("--database", f"sqlite:///{folder}/registry.db", "--store", f"{folder}/store"),
        *("--source-root", str(ROOT / "demo"), *arguments),
    ]
    log = folder / "server.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT, cwd=ROOT)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(url, process, log)
        yield url, log
    finally:
        process.terminate()
        process.wait(60)


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    ends = time.monotonic() + START_SECONDS
    while time.monotonic() < ends:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                return
        if process.poll() is not None:
            break
        time.sleep(0.5)
    raise SystemExit(f"the server did not start:\n{log.read_text(errors='replace')[-3000:]}")


def register(client: httpx.Client) -> None:
    """The adapter that the bystander asks for."""
    source = {"source": str(ROOT / "demo" / "adapters" / "upper")}
    client.post("/api/v1/adapters/upper/versions", json=source).raise_for_status()
