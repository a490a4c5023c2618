"""A real MLflow server with a registry of its own, and MLflow's own client to fill it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

PYTHON = Path(__file__).parents[3] / ".venv" / "mlflow" / "bin" / "python"
START_SECONDS = 120
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
    # not used here, and ten processes that each import all of MLflow
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}


@contextmanager
def mlflow_server(folder: Path, port: int, *options: str, python: Path = PYTHON) -> Iterator[str]:
    """Its URL. Rows in SQLite, artifacts in a folder behind the server."""
    url = f"http://127.0.0.1:{port}"
    command = [str(python), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", *options]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=_environment(), start_new_session=True, cwd=folder
        )
        try:
            _wait(url, process, folder / "log")
            yield url
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # how MLflow stops, and how slowly, is its own
            process.wait()


def run_client(url: str, script: str, *arguments: str, python: Path = PYTHON) -> str:
    """A script that uses MLflow's own client; what it prints."""
    done = subprocess.run(
        [python, "-W", "ignore", "-c", script, url, *arguments],
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return {**kept, **_QUIET, "PYTHONWARNINGS": "ignore"}


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(f"{url}/health", timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    sys.exit("MLflow did not start")
