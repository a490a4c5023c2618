"""Adapters for the experts of a mixture, on a GPU: vLLM's CPU build can't compute them.

Trained on the spot with PEFT, in each form that it saves or vLLM takes, more of them than slots and
host places; the answers are held against transformers and PEFT on the same device.
"""

from pathlib import Path

import pytest

from benchmarks.common.environment import stay_offline
from benchmarks.right.comparison import Plan, judge, measure
from benchmarks.right.families import MIXTURES
from benchmarks.right.kinds import EXPERT_KINDS

pytestmark = [pytest.mark.timeout(1500)]

MOST = 2.5  # times the base's own difference
GRAPHS = {"eager": ("--enforce-eager",), "cuda-graphs": ()}


@pytest.fixture(scope="module", params=MIXTURES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def models(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained once for both modes."""
    return tmp_path_factory.mktemp(family)


@pytest.mark.parametrize("graphs", GRAPHS)
def test_experts_answer_as_peft_computes_them_through_eviction_and_reload(
    family: str, graphs: str, models: Path, pytestconfig: pytest.Config
) -> None:
    if pytestconfig.getoption("--engine-on") != "cuda":
        pytest.skip("the CPU build computes no mixture while adapters are on")
    stay_offline()
    plan = Plan(
        MIXTURES[family],
        dtype="bfloat16",
        device="cuda",
        steps=600,
        batch=16,
        prompts=8,
        streams=4,
        arguments=GRAPHS[graphs],
    )
    rows, evictions = measure(plan, models)
    assert [row["adapter"] for row in rows[1:]] == list(EXPERT_KINDS)
    assert judge(rows, MOST), rows
    assert all(row["chosen alike"] > 0.9 for row in rows), rows
    assert evictions["gpu"] > 0
    assert evictions["host"] > 0
