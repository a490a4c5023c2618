"""`make audit` against our own vulnerability service, and without one."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from scripts.audit import Allowed, Vulnerability, say, skipped, vulnerabilities

ROOT = Path(__file__).parents[3]
TODAY = date(2027, 1, 15)
FOUND = Vulnerability("packaging", "25.0", ("GHSA-1", "CVE-1"), ("26.0",))
FINDING = {
    "id": "GHSA-1",
    "aliases": ["CVE-1"],
    "summary": "it is bad",
    "affected": [
        {
            "package": {"name": "pluggy", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99"}]}],
        }
    ],
}


class Service(BaseHTTPRequestHandler):
    """Speaks OSV's protocol, and knows a vulnerability of one package."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        known = [FINDING] if asked["package"]["name"] == "pluggy" else []
        answer = json.dumps({"vulns": known}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def service() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
        server.shutdown()
        thread.join()


def audit(url: str, cache: Path) -> subprocess.CompletedProcess[str]:
    options = ["--vulnerability-service=osv", f"--osv-url={url}", f"--cache-dir={cache}"]
    command = [sys.executable, "scripts/audit.py", "bootstrap", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_known_vulnerability_fails_the_audit(service: str, tmp_path: Path) -> None:
    done = audit(service, tmp_path)
    assert done.returncode == 1, done.stderr
    (line,) = done.stdout.splitlines()
    assert line.startswith("VULNERABLE  pluggy ")
    assert re.search(r": (CVE|GHSA)-1, fixed in 99$", line)


def test_an_unreachable_service_is_no_clean_result(tmp_path: Path) -> None:
    done = audit("http://127.0.0.1:1/v1/query", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("audit: nothing is known: ")


def test_a_package_unknown_to_the_service_is_no_clean_result() -> None:
    report = {
        "dependencies": [
            {"name": "known", "version": "1", "vulns": []},
            {"name": "other", "skip_reason": "Dependency not found: other"},
        ]
    }
    assert skipped(report) == ["Dependency not found: other"]
    assert vulnerabilities(report) == []


def allowed(name: str = "CVE-1", package: str = "packaging", until: date = TODAY) -> Allowed:
    return Allowed(name, package, "waits for vLLM", until)


@pytest.mark.parametrize(
    ("exception", "code", "said"),
    [
        (allowed(), 0, "allowed  packaging 25.0: GHSA-1, fixed in 26.0  waits for vLLM"),
        (allowed("GHSA-1"), 0, "allowed"),
        (allowed(until=date(2027, 1, 14)), 1, "VULNERABLE"),
        (allowed(package="other"), 1, "VULNERABLE"),
        (allowed("GHSA-2"), 1, "OUT OF DATE  the exception for GHSA-2 of packaging"),
    ],
)
def test_an_exception_counts_for_its_package_until_its_date(
    exception: Allowed, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    locks = ("bootstrap", "cpu", "cuda", "dev", "mlflow", "peers", "torch-cpu")
    assert say([FOUND], [exception], locks, TODAY) == code
    assert said in capsys.readouterr().out
