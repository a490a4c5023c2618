"""Code blocks of docs/: each is run by a test, or has a reason why not and is listed here."""

import re
from collections.abc import Iterator

import pytest

from tests.support.docs.page_blocks import (
    BLOCK,
    DOCS,
    ENGINE_PAGES,
    OTHER_TESTS,
    REGISTRY_PAGES,
    ROOT,
    RUNNABLE,
    all_blocks,
    blocks_of,
    matches,
)

SERVES = "needs a model's weights; tests/docs/test_serve_examples.py parses it"
MLFLOW = "needs an MLflow server; tests/api/transfer/test_import_mlflow.py starts one"
CONTAINER = "needs a container engine; tests/e2e/docs/test_deployed.py carries its steps out"
SYSTEMD = "writes to /opt and /etc; tests/e2e/docs/test_deployed.py starts what the unit starts"
KUBERNETES = (
    "needs a cluster; tests/docs/test_deployment_files.py checks the manifests against its schemas"
)
# (page, reason): how many blocks are not run for it.
NOT_RUN = {
    ("client.md", "LangChain is not installed here"): 1,
    ("howto/from-lorax.md", "the client is installed beside the server, not with it"): 1,
    ("keys.md", "this server requires no keys"): 1,
    ("tenants.md", "it needs an adapter of the tenant"): 1,
    ("howto/from-mlflow.md", MLFLOW): 2,
    ("howto/from-sglang.md", SERVES): 1,
    ("howto/guests.md", "it needs a second server; tests/e2e/fleet/test_guest.py starts one"): 1,
    ("howto/from-vllm.md", SERVES): 1,
    (
        "howto/stock-engines.md",
        "it needs two servers; tests/e2e/fleet/test_stock_engines.py starts one",
    ): 1,
    (
        "operations/base-models.md",
        "it needs several models; tests/faults/test_other_base.py serves two",
    ): 5,
    ("operations/deployment.md", CONTAINER): 2,
    ("operations/deployment.md", SYSTEMD): 1,
    ("operations/deployment.md", KUBERNETES): 1,
    ("install.md", "it installs; tests/e2e/docs/test_wheel.py builds and installs the wheel"): 3,
    ("metrics.md", SERVES): 1,
    ("bad-input.md", "minutes"): 1,
    ("policy.md", "minutes"): 2,
    ("metrics.md", "minutes"): 1,
    ("operations/replicas.md", "it needs GPUs; tests/fleet starts two CPU engines"): 1,
    (
        "operations/replicas.md",
        "it needs GPUs; tests/e2e/fleet/test_ray_cluster.py has two CPU engines of different ranks",
    ): 1,
    (
        "operations/replicas.md",
        "it needs a cluster; tests/e2e/fleet/test_ray_cluster.py starts one of one node",
    ): 1,
    ("operations/sizing.md", "minutes"): 1,
    ("operations/sizing.md", "minutes, and a GPU"): 2,
    ("correctness.md", "minutes, and a GPU with each version"): 1,
    ("operations/sizing.md", "it needs the traces that `--keep FOLDER` has left"): 3,
    ("operations/upgrade.md", "downloads 340 MB, minutes"): 1,
    ("operations/upgrade.md", "downloads 100 MB and torch, minutes"): 1,
    ("operations/upgrade.md", "fetches a newer version of this repository"): 1,
    (
        "quick-start.md",
        "installs and serves; tests/e2e/docs/test_demo_command.py does it",
    ): 1,
    ("quick-start.md", SERVES): 1,
    ("correctness.md", "minutes, and a GPU"): 3,
    ("correctness.md", "minutes, and two GPUs"): 1,
    ("performance.md", "minutes, and a GPU"): 5,
    ("performance.md", "minutes, and two GPUs"): 1,
    ("performance.md", "minutes"): 5,
    ("performance.md", "it measures the machine"): 1,
    ("performance.md", "it writes a file of the documentation"): 1,
    ("registry-performance.md", "minutes"): 1,
    ("reliability.md", "minutes"): 3,
    ("scale.md", "minutes, and two GPUs"): 2,
    ("scale.md", "minutes"): 4,
    ("transfer.md", MLFLOW): 1,
}
KINDS = {*RUNNABLE, "text", "yaml", "json", "promql", "mermaid"}
GENERATED_OR_CODE = ("reference/", "generate/", "decisions/")
PAGES = [
    page
    for path in sorted(DOCS.rglob("*.md"))
    if not (page := path.relative_to(DOCS).as_posix()).startswith(GENERATED_OR_CODE)
]
# Blocks that are indented, in pages that were written before this rule.
INDENTED = ("aliases.md", "database.md", "lifecycle.md", "register.md", "registry-performance.md")


def not_run() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for block in all_blocks(page):
            if block.not_run is not None:
                yield page, block.not_run


def test_what_is_not_run_is_listed_with_its_reason() -> None:
    found = list(not_run())
    assert {each: found.count(each) for each in found} == NOT_RUN


@pytest.mark.parametrize("page", PAGES)
def test_every_block_has_a_kind(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    blocks = all_blocks(page)
    assert len(blocks) * 2 == len(re.findall(r"^ *```", text, re.MULTILINE)), "one is not closed"
    assert {block.kind for block in blocks} <= KINDS
    if page not in INDENTED:
        assert not re.search(r"^\n {4}\S", BLOCK.sub("", text), re.MULTILINE), "is never run"


@pytest.mark.parametrize("page", PAGES)
def test_a_page_with_something_to_run_is_run_by_one_test(page: str) -> None:
    places = [page in REGISTRY_PAGES, page in ENGINE_PAGES, page in OTHER_TESTS]
    assert sum(places) == bool(blocks_of(page)), page
    if page in OTHER_TESTS:
        assert page in (ROOT / OTHER_TESTS[page]).read_text(encoding="utf-8")


def test_every_page_that_is_run_exists() -> None:
    assert {*REGISTRY_PAGES, *ENGINE_PAGES, *OTHER_TESTS} <= set(PAGES)


def test_an_output_is_compared_line_by_line() -> None:
    assert matches("a … c\nd\n", "a  b c\nd\n")
    assert not matches("a … c\nd\n", "a  b c\n")
    assert not matches("a\n", "b\n")
