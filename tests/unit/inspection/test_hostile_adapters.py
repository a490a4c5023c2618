"""Adapters made to hurt: inspection ends with a verdict, in bounded memory and time."""

import json
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.errors import InvalidAdapter
from registry.errors.defects import Defect
from registry.inspection.base_model import BaseModel
from registry.inspection.inspector import inspect_adapter, judge_adapter
from registry.inspection.supported_modules import SupportedModule, SupportedModules
from tests.support.adapters.fake_naming import FakeNaming

MODULE = "model.layers.0.self_attn.q_proj"
SHAPE = (6, 10)
RANK, MAX_RANK = 4, 16
SERVED = SupportedModules("vllm 0", {MODULE: SupportedModule(SHAPE)}, FakeNaming([MODULE]))
BASE = BaseModel("tiny", {MODULE: SHAPE}, SERVED)
A = f"base_model.model.{MODULE}.lora_A.weight"
B = f"base_model.model.{MODULE}.lora_B.weight"
CONFIG: dict[str, Any] = {
    "peft_type": "LORA", "r": RANK, "lora_alpha": 8, "target_modules": ["q_proj"],
    "rank_pattern": {}, "alpha_pattern": {}, "bias": "none", "use_dora": False,
    "modules_to_save": None, "init_lora_weights": True, "base_model_name_or_path": "tiny",
}  # fmt: skip
HEADER: dict[str, Any] = {
    A: {"dtype": "F32", "shape": [RANK, 10], "data_offsets": [0, 160]},
    B: {"dtype": "F32", "shape": [6, RANK], "data_offsets": [160, 256]},
}
DATA = struct.pack("<64f", *[0.5] * 64)

sizes = (
    st.sampled_from([0, 1, 2, 4, 6, 10, 160, 256, 2**31, 2**40, 2**62, 2**64, -1]) | st.integers()
)
names = (
    st.sampled_from([A, B, MODULE, "", "\0", "é" * 500, "😀", "__metadata__", "base_model.model."])
    | st.sampled_from(["base_model.model.lm_head.weight", A.replace("lora_A", "lora_embedding_A")])
    | st.text(max_size=40)
    | st.builds(lambda text: f"base_model.model.{text}.lora_A.weight", st.text(max_size=20))
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | sizes,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
dtypes = st.sampled_from(["F32", "F16", "BF16", "F64", "F8_E4M3", "F4", "I8", "C64", "x", ""])
entries = st.fixed_dictionaries(
    {
        "dtype": dtypes | json_values,
        "shape": st.lists(sizes, max_size=3) | json_values,
        "data_offsets": st.lists(sizes, min_size=2, max_size=2) | json_values,
    }
)
headers = st.dictionaries(names, entries | json_values, max_size=4).map(
    lambda new: {**HEADER, **new}
)
configs = st.dictionaries(st.sampled_from(sorted(CONFIG)), json_values, max_size=4).map(
    lambda new: {**CONFIG, **new}
)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """One for all examples of a property, each of which rewrites its files."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


def write(folder: Path, config: bytes, weights: bytes) -> Path:
    (folder / "adapter_config.json").write_bytes(config)
    (folder / "adapter_model.safetensors").write_bytes(weights)
    return folder


def weights(header: object, data: bytes = DATA, *, lie: int = 0) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", max(0, len(raw) + lie)) + raw + data


def assert_judged(folder: Path) -> None:
    """There is a verdict, it can be sent and kept, and registering would come to the same."""
    verdict = judge_adapter(folder, BASE, MAX_RANK)
    for problem in verdict.problems:
        assert problem.code in set(Defect)
        problem.detail.encode()
        assert len(problem.detail) < 1000
    try:
        inspection = inspect_adapter(folder, BASE, MAX_RANK)
    except InvalidAdapter as error:
        first = (error.code, error.detail)
    else:
        assert inspection == verdict.inspection
        json.dumps(inspection.report, allow_nan=False)
        return
    assert (verdict.problems[0].code, verdict.problems[0].detail) == first
    assert verdict.inspection is None


def test_what_is_mutated_below_is_good_at_first(folder: Path) -> None:
    good = write(folder, json.dumps(CONFIG).encode(), weights(HEADER))
    assert judge_adapter(good, BASE, MAX_RANK).problems == ()


@settings(max_examples=300)
@given(headers, st.sampled_from([0, 0, 0, 1, -1, 8, 1000, 2**40]), st.integers(0, 256))
def test_any_header(folder: Path, header: dict[str, Any], lie: int, left: int) -> None:
    assert_judged(write(folder, json.dumps(CONFIG).encode(), weights(header, DATA[left:], lie=lie)))


@settings(max_examples=300)
@given(configs)
def test_any_configuration(folder: Path, config: dict[str, Any]) -> None:
    assert_judged(write(folder, json.dumps(config).encode(), weights(HEADER)))


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_any_bytes(folder: Path, config: bytes, content: bytes) -> None:
    assert_judged(write(folder, config, content))


# ---- large ones, in a process that may take little -----------------------------------------

HEADER_BYTES = 25 * 2**20
MEMORY_BYTES = 640 * 2**20  # over what Python and numpy take by themselves
CPU_SECONDS = 60

LIMITED = f"""
import resource, sys
from pathlib import Path
from registry.inspection.base_model import BaseModel
from registry.inspection.inspector import judge_adapter
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + {MEMORY_BYTES},) * 2)
resource.setrlimit(resource.RLIMIT_CPU, ({CPU_SECONDS},) * 2)
print(*judge_adapter(Path(sys.argv[1]), BaseModel("tiny", None), {MAX_RANK}).counts)
"""


def in_little_memory(folder: Path) -> set[str]:
    """The codes of all defects."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(folder)],
        capture_output=True,
        text=True,
        env={"OPENBLAS_NUM_THREADS": "1", "PATH": ""},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return set(done.stdout.split())


def patterns(count: int) -> bytes:
    """Of which none fits: a default, one that changes nothing."""
    return json.dumps({**CONFIG, "alpha_pattern": {f"x{n}": 2 for n in range(count)}}).encode()


def many_tensors() -> bytes:
    entry = b':{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    names_ = (b'"base_model.model.%07d.lora_A.weight"' % n for n in range(HEADER_BYTES // 90))
    return b"{" + b",".join(name + entry for name in names_) + b"}"


@pytest.mark.parametrize(
    ("header", "code"),
    [
        pytest.param(lambda: b"[" * HEADER_BYTES, "header_invalid", id="deep lists"),
        pytest.param(lambda: b'{"a":' * (HEADER_BYTES // 5), "header_invalid", id="deep objects"),
        pytest.param(lambda: b"9" * HEADER_BYTES, "header_invalid", id="one number"),
        pytest.param(lambda: b'{"a":1e' + b"9" * 10**7 + b"}", "header_invalid", id="an exponent"),
        pytest.param(
            lambda: b'{"' + b"\\u0041" * (HEADER_BYTES // 6 - 4) + b'":{}}',
            "header_invalid",
            id="one name",
        ),
        pytest.param(many_tensors, "unpaired_tensor", id="many tensors"),
        pytest.param(
            lambda: b"{" + b",".join([b'"a":{}'] * (HEADER_BYTES // 7)) + b"}",
            "header_invalid",
            id="one name many times",
        ),
    ],
)
def test_a_header_as_long_as_may_be(tmp_path: Path, header: Any, code: str) -> None:
    raw = header()
    assert len(raw) <= HEADER_BYTES
    write(tmp_path, json.dumps(CONFIG).encode(), weights(raw, b""))
    assert code in in_little_memory(tmp_path)


def test_an_adapter_far_larger_than_the_memory(tmp_path: Path) -> None:
    """An infinity at the end of nothing but zeros. The file is sparse."""
    columns, size_bytes = 2**26, 2**30
    header = {
        A: {"dtype": "F32", "shape": [RANK, columns], "data_offsets": [0, size_bytes]},
        B: {"dtype": "F32", "shape": [6, RANK], "data_offsets": [size_bytes, size_bytes + 96]},
    }
    write(tmp_path, json.dumps(CONFIG).encode(), weights(header, b""))
    with (tmp_path / "adapter_model.safetensors").open("ab") as file:
        file.truncate(file.tell() + size_bytes)
        file.seek(0, 2)
        file.write(struct.pack("<24f", *[0.5] * 23, float("inf")))
    assert in_little_memory(tmp_path) == {"not_finite", "no_effect"}


@pytest.mark.parametrize(
    ("config", "codes"),
    [
        (b"[" * 2**20, {"config_invalid"}),
        (b'{"peft_type":"LORA","r":' + b"9" * 10**6 + b"}", {"config_invalid"}),
        (patterns(50_000), {"pattern_invalid"}),
        (patterns(1000), set()),
    ],
    ids=["deep lists", "one number", "far too many patterns", "as many patterns as may be"],
)
def test_a_configuration_as_long_as_may_be(tmp_path: Path, config: bytes, codes: set[str]) -> None:
    assert len(config) <= 2**20
    write(tmp_path, config, weights(HEADER))
    assert in_little_memory(tmp_path) == codes


def test_the_limit_bites() -> None:
    """Else the tests above would show nothing."""
    greedy = LIMITED.replace("print(", f"bytes({MEMORY_BYTES}); print(")
    done = subprocess.run(
        [sys.executable, "-c", greedy, "/"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "MemoryError" in done.stderr
