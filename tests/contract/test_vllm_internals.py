"""vLLM internals: the installed vLLM has all that we rely on; others are refused."""

import subprocess
import sys
from pathlib import Path

import pytest

from engine.vllm import compat as vllm_compat
from engine.vllm import internals as vllm_internals

ROOT = Path(__file__).resolve().parents[2]


def test_all_internals_we_rely_on_exist() -> None:
    assert vllm_internals.find_missing() == []
    vllm_compat.check_internals()


@pytest.mark.parametrize(
    ("internal", "shown"),
    [
        (("vllm.no_such_module", "Class", ["name"]), "vllm.no_such_module.Class.name"),
        (("vllm.lora.lora_model", "NoClass", ["name"]), "vllm.lora.lora_model.NoClass.name"),
        (("vllm.lora.lora_model", "LoRAModel", ["gone"]), "vllm.lora.lora_model.LoRAModel.gone"),
        (("vllm.lora.lora_model", None, ["gone"]), "vllm.lora.lora_model.gone"),
    ],
)
def test_what_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, internal: tuple[str, str | None, list[str]], shown: str
) -> None:
    monkeypatch.setattr(vllm_internals, "INTERNALS", [*vllm_internals.INTERNALS, internal])
    assert vllm_internals.find_missing() == [shown]
    with pytest.raises(vllm_compat.UnsupportedVllm, match=f"lacks what .* relies on: {shown}$"):
        vllm_compat.check_internals()


@pytest.mark.parametrize("version", ["0.26.0", "0.29.1", "0.32.0+cpu"])
def test_tested_versions_are_taken(version: str) -> None:
    assert vllm_compat.check_version(version) == version


@pytest.mark.parametrize("version", ["0.25.1", "0.33.0", "1.0.0rc1"])
def test_others_are_refused_unless_allowed(version: str) -> None:
    with pytest.raises(
        vllm_compat.UnsupportedVllm, match=f"vLLM {version} is .*--allow-untested-vll"
    ):
        vllm_compat.check_version(version)
    assert vllm_compat.check_version(version, allow_untested=True) == version


def test_an_untested_vllm_is_one_line_before_the_engine_starts(tmp_path: Path) -> None:
    """The real command, on an installed vLLM that says it is another one."""
    distribution = tmp_path / "vllm-0.99.0.dist-info"
    distribution.mkdir()
    (distribution / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.99.0\n")
    done = subprocess.run(
        [sys.executable, "-m", "adaptry", "serve", "no/model", "--port=0", "--enforce-eager"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{tmp_path}:{ROOT}"},
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("adaptry: vLLM 0.99.0 is installed")
