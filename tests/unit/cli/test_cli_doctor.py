"""`adaptry doctor`: each problem is found and comes with its fix."""

import json
import resource
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from adaptry.cli import main
from adaptry.doctor import machine as doctor_machine
from adaptry.doctor import service as doctor_service
from adaptry.doctor.findings import Finding, Health, ok, run_checks
from adaptry.doctor.service import Service
from tests.support.servers.registry_threaded import registry_server

UNUSED = "http://127.0.0.1:1"
CHECKS = ["python", "install", "vllm", "gpu", "compiler", "memory", "file limit"]
CHECKS += ["settings", "database", "store", "server"]


def service(tmp_path: Path, **changed: Any) -> Service:
    given = {"database_url": f"sqlite:///{tmp_path}/r.db", "store": tmp_path / "store"}
    return Service(**{**given, "server": UNUSED, **changed})


def test_every_check_runs_and_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["--database", f"sqlite:///{tmp_path}/r.db", "--store", str(tmp_path / "store")]
    assert main(["doctor", *places, "--server", UNUSED, "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)
    assert [finding["check"] for finding in findings] == CHECKS
    assert all(finding["fix"] for finding in findings if finding["health"] != "ok")
    assert not list(tmp_path.iterdir()), "it changes nothing"
    assert main(["doctor", *places, "--server", UNUSED]) == 0
    assert "ok       vllm: vllm" in capsys.readouterr().out


def test_a_broken_check_sets_the_exit_code_and_has_a_fix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "store").write_text("a file, not a folder")
    database = "postgresql://nobody@127.0.0.1:1/none"
    arguments = ["--database", database, "--store", str(tmp_path / "store"), "--server", UNUSED]
    assert main(["doctor", *arguments]) == 1
    lines = capsys.readouterr().out.splitlines()
    for check in ("database", "store"):
        index = next(n for n, line in enumerate(lines) if f"BROKEN   {check}: " in line)
        assert "fix: " in lines[index + 1]


def test_a_ready_server_is_ok_and_another_program_is_not(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        url = f"http://127.0.0.1:{other.getsockname()[1]}"
        assert service(tmp_path, server=url).check_server().health is Health.BROKEN
    assert "free for" in service(tmp_path, server=url).check_server().detail
    (tmp_path / "state").mkdir()
    with registry_server(tmp_path / "state") as registry:
        finding = service(tmp_path, server=registry).check_server()
        assert finding.health is Health.BROKEN, "the registry alone is never ready to serve"
    assert service(tmp_path, server="nowhere").check_server().health is Health.BROKEN
    assert service(tmp_path, server="http://adaptry.invalid").check_server().health is Health.BROKEN


def test_a_nearly_full_disk_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert service(tmp_path).check_store().detail.endswith(str(tmp_path / "store"))
    monkeypatch.setattr(doctor_service, "SMALL_DISK_BYTES", 2**60)
    assert service(tmp_path).check_store().health is Health.WARNING
    monkeypatch.setattr(doctor_service, "TINY_DISK_BYTES", 2**60)
    assert service(tmp_path).check_store().health is Health.BROKEN


def test_an_invalid_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor_service.check_settings().health is Health.OK
    monkeypatch.setenv("ADAPTRY_MAX_INGESTS", "none")
    finding = doctor_service.check_settings()
    assert (finding.health, finding.detail[:19]) == (Health.BROKEN, "ADAPTRY_MAX_INGESTS")


def test_few_open_files_are_a_warning() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
        finding = doctor_machine.check_file_limit()
        assert (finding.health, "ulimit -n" in finding.fix) == (Health.WARNING, True)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def tool(folder: Path, text: str) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / "nvidia-smi"
    path.write_text(f"#!{sys.executable}\n{text}\n")
    path.chmod(0o755)


def test_the_build_of_vllm_has_to_fit_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_cpu_build = doctor_machine._is_missing("vllm")
    without = Health.OK if is_cpu_build else Health.BROKEN
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    assert doctor_machine.check_gpu().health is without
    tool(tmp_path / "bin", "print('NVIDIA H100, 81559 MiB')")
    finding = doctor_machine.check_gpu()
    assert finding.health is (Health.WARNING if is_cpu_build else Health.OK)
    assert "H100" in finding.detail
    tool(tmp_path / "bin", "raise SystemExit(9)")
    assert doctor_machine.check_gpu().health is without


def test_a_check_that_raises_does_not_stop_the_others() -> None:
    def fails() -> Finding:
        raise OSError("no such thing")

    checks = iter([("one", fails), ("two", lambda: ok("two", "well"))])
    assert [finding.health for finding in run_checks(checks)] == [Health.BROKEN, Health.OK]
