"""Python clients of other servers, in an environment of their own beside this one."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

PYTHON = Path(__file__).parents[2] / ".venv" / "peers" / "bin" / "python"


def run_client(script: str, *arguments: str) -> Any:
    """What a script prints as JSON."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [PYTHON, "-W", "ignore", "-c", script, *arguments],
        env={**environment, "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
