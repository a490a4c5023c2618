"""vLLM internals: the installed vLLM has all that we rely on; others are refused."""

import subprocess
import sys
from pathlib import Path

import pytest
from vllm.v1.engine import detokenizer

from adaptry.serve import arguments as serve_arguments
from adaptry.serve import modes
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


def test_a_detokenizer_of_another_kind_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each long prompt would end in an AttributeError."""
    changed = type("FastIncrementalDetokenizer", (), {})
    monkeypatch.setattr(detokenizer, "FastIncrementalDetokenizer", changed)
    names = ("stream", "tokenizer", "skip_special_tokens")
    of = f"{detokenizer.__name__}.FastIncrementalDetokenizer"
    assert vllm_internals.find_missing() == [f"{of}.{name}" for name in names]


@pytest.mark.parametrize("version", ["0.26.0", "0.29.1", "0.32.0+cpu", "0.33.0"])
def test_tested_versions_are_taken_without_remark(version: str) -> None:
    assert vllm_compat.check_version(version) == version
    assert vllm_compat.untested_remark(version) is None


@pytest.mark.parametrize("version", ["0.34.0", "1.0.0rc1"])
def test_newer_ones_are_taken_with_a_remark(version: str) -> None:
    assert vllm_compat.check_version(version) == version
    remark = vllm_compat.untested_remark(version)
    assert remark is not None
    assert remark.startswith(f"vLLM {version} was not tested")


@pytest.mark.parametrize("version", ["0.25.1", "0.9.0"])
def test_older_ones_are_refused_unless_allowed(version: str) -> None:
    with pytest.raises(
        vllm_compat.UnsupportedVllm, match=f"vLLM {version} is .*--allow-untested-vllm"
    ):
        vllm_compat.check_version(version)
    assert vllm_compat.check_version(version, allow_untested=True) == version


def _serve_with_vllm(version: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The real command, on an installed vLLM that says it is another one, and can't be imported."""
    distribution = folder / f"vllm-{version}.dist-info"
    distribution.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n"
    (distribution / "METADATA").write_text(metadata)
    (folder / "vllm").mkdir()
    (folder / "vllm" / "__init__.py").write_text("raise ImportError('another Python is needed')")
    return subprocess.run(
        [sys.executable, "-m", "adaptry", "serve", "no/model", "--port=0", "--enforce-eager"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{folder}:{ROOT}", "HF_HUB_OFFLINE": "1"},
    )


def test_an_old_vllm_is_one_line_before_the_engine_starts(tmp_path: Path) -> None:
    done = _serve_with_vllm("0.25.1", tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("adaptry: vLLM 0.25.1 is installed")


def test_a_newer_vllm_starts_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(vllm_compat, "installed_version", lambda: "0.99.0")
    arguments = serve_arguments.parse([str(ROOT / "demo" / "base"), "--enable-lora"])
    assert modes._parse_for_vllm(arguments, engines=1).enable_lora
    said = capsys.readouterr().err
    assert "adaptry: warning: vLLM 0.99.0 was not tested with this release" in said
