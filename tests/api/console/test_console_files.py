"""The console's files as the server gives them out, from the tree and from an installed wheel."""

import gzip
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from engine.console.router import create_console_router
from tests.support.servers.asgi_server import take_in

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "console"
SCRIPTS = {".js", ".ts", ".tsx"}
STATIC = ROOT / "engine" / "console" / "static"
TYPES = {"main.js": "text/javascript", "console.css": "text/css", "icon.svg": "image/svg+xml"}


@pytest.fixture(scope="module")
def console() -> Iterator[TestClient]:
    app = FastAPI()
    take_in(app, create_console_router())
    with TestClient(app, follow_redirects=False) as client:
        yield client


def test_the_root_leads_to_the_page(console: TestClient) -> None:
    entered = console.get("/")
    assert (entered.status_code, entered.headers["location"]) == (307, "console/")


def test_the_page_is_under_a_path_with_a_slash(console: TestClient) -> None:
    entered = console.get("/console")
    assert (entered.status_code, entered.headers["location"]) == (307, "console/")
    page = console.get("/console/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.content == (STATIC / "index.html").read_bytes()


@pytest.mark.parametrize(("name", "content_type"), TYPES.items())
def test_a_file_has_the_type_that_browsers_want(
    console: TestClient, name: str, content_type: str
) -> None:
    response = console.get(f"/console/{name}")
    assert response.headers["content-type"].partition(";")[0] == content_type
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", ["", "main.js"])
def test_nothing_but_our_own_files_may_run(console: TestClient, name: str) -> None:
    policy = console.get(f"/console/{name}").headers["content-security-policy"]
    assert "default-src 'self';" in policy
    assert "frame-ancestors 'none';" in policy
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'; trusted-types 'none'" in policy


def test_the_page_has_no_script_or_style_of_its_own() -> None:
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    assert "<style" not in page
    assert " style=" not in page
    assert "onclick" not in page
    assert page.count("<script") == page.count("<script src=") + page.count('<script type="module"')


def test_no_file_names_another_host() -> None:
    namespace = "http://www.w3.org/2000/svg"  # a name, and never fetched
    texts = {path.name: path.read_text(encoding="utf-8") for path in STATIC.iterdir()}
    names = ("http://www.w3.org/1998/Math/MathML", "http://www.w3.org/1999/xhtml", namespace)
    for each in names:
        texts = {name: text.replace(each, "") for name, text in texts.items()}
    assert [name for name, text in texts.items() if "://" in text] == []


def test_the_first_view_is_small(console: TestClient) -> None:
    """Compressed as a proxy would."""
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    loaded = {"index.html", *re.findall(r'(?:src|href)="([\w.-]+\.\w+)"', page)}
    loaded |= {path.name for path in STATIC.glob("chunk-*.js")}
    assert {"main.js", "console.css"} < loaded
    sizes = {name: len(gzip.compress((STATIC / name).read_bytes())) for name in loaded}
    assert sum(sizes.values()) < 100_000, sizes


def test_the_lock_names_no_host() -> None:
    """Where packages come from is the business of the machine that builds."""
    lock = json.loads((SOURCE / "package-lock.json").read_text(encoding="utf-8"))
    assert lock["packages"]["node_modules/preact"]["integrity"].startswith("sha512-")
    assert [name for name, package in lock["packages"].items() if "resolved" in package] == []


def test_what_a_browser_has_already_is_not_sent_again(console: TestClient) -> None:
    first = console.get("/console/main.js")
    assert first.headers["cache-control"] == "no-cache"
    again = console.get(
        "/console/main.js", headers={"if-none-match": f'"x", {first.headers["etag"]}'}
    )
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    other = console.get("/console/main.js", headers={"if-none-match": '"another"'})
    assert other.status_code == 200


def test_head_is_answered_too(console: TestClient) -> None:
    assert console.head("/console/main.js").status_code == 200


@pytest.mark.parametrize("name", ["nothing.js", "../router.py", "..%2frouter.py", "static/main.js"])
def test_nothing_else_is_served(console: TestClient, name: str) -> None:
    response = console.get(f"/console/{name}")
    assert response.status_code == 404
    if response.url.path.startswith("/console/"):
        assert response.json()["code"] == "not_found"


def test_an_installed_wheel_serves_every_file(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "site")
    code = (
        "import engine.console.router as console; assert '/site/' in console.__file__\n"
        "print(*sorted(console._read_files()))"
    )
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, 'site')\n{code}"]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout.split() == sorted(path.name for path in STATIC.iterdir())


def test_modules_stay_short() -> None:
    sources = [path for path in (SOURCE / "src").rglob("*.*") if path.suffix in SCRIPTS]
    written = [path for path in sources if path.name != "openapi.d.ts"]  # made from openapi.json
    assert len(written) > 20
    assert [path.name for path in written if lines(path) > 250] == []


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())
