"""End of a soak before its time, as beside tests that have failed: nothing is left running."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[3]
SERVER = """
import os, time
from pathlib import Path

Path(__file__).with_name("pid").write_text(str(os.getpid()))
time.sleep(100)
"""
SOAK = """
import sys
import benchmarks.soak.__main__ as soak

soak.command = lambda state: ["server_that_never_answers"]
sys.argv = ["soak"]
soak.main()
"""


def test_its_server_ends_with_it(tmp_path: Path) -> None:
    (tmp_path / "server_that_never_answers.py").write_text(SERVER)
    noted = tmp_path / "pid"
    path = os.pathsep.join((str(tmp_path), str(ROOT)))
    environment = {**os.environ, "PYTHONPATH": path, "TMPDIR": str(tmp_path)}
    soak = subprocess.Popen([sys.executable, "-c", SOAK], env=environment, stderr=subprocess.PIPE)
    with soak:
        deadline = time.monotonic() + 100
        while not (noted.exists() and noted.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        soak.send_signal(signal.SIGTERM)
        said = soak.communicate(timeout=60)[1]
    assert not psutil.pid_exists(int(noted.read_text()))
    assert soak.returncode == 1
    assert said.decode().splitlines()[-1] == "ended before its time"
    assert not list(tmp_path.glob("tmp*")), "its folders"
