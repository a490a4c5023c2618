"""The examples of docs/register.md, as they are written, against a running registry."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from benchmarks.ingest.large_adapter import make_large_adapter
from registry.inspection.base_model import BaseModel
from registry.settings import RegistrySettings
from tests.support.servers.registry_in_loop import running_registry

PAGE = Path(__file__).parents[2] / "docs" / "register.md"
EXAMPLE = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
SETTING = re.compile(r"^\|[^|]+\| `ADAPTRY_(\w+)` \| (.+?) \|$", re.MULTILINE)
UNITS = {"MiB": 2**20, "GiB": 2**30}


async def test_every_example_runs(tmp_path: Path, database_url: str) -> None:
    sources = tmp_path / "sources"
    for n in (1, 2, 3):
        make_large_adapter(sources / f"support-v{n}", 4096 * n)
    examples = EXAMPLE.findall(PAGE.read_text(encoding="utf-8"))
    assert len(examples) >= 3
    async with running_registry(database_url, tmp_path, BaseModel("any", None)) as registry:
        url = registry.http.base_url
        shell = await asyncio.create_subprocess_exec(
            *["bash", "-euxo", "pipefail", "-c", "\n".join(examples)],
            cwd=sources,
            env={
                **os.environ,
                "ADAPTRY_SERVER": f"http://{url.host}:{url.port}",
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        output, _ = await shell.communicate()
        assert shell.returncode == 0, output.decode()
        versions = (await registry.http.get("/adapters/support/versions")).json()["items"]
        assert [version["number"] for version in versions] == [1, 2, 3]
        jobs: httpx.Response = await registry.http.get("/jobs")
        for job in jobs.json()["items"]:
            assert (await registry.end_of(job["id"]))["state"] == "succeeded"


def test_every_setting_has_the_default_that_is_written_there() -> None:
    settings = RegistrySettings()
    written = SETTING.findall(PAGE.read_text(encoding="utf-8"))
    assert len(written) >= 10
    for name, default in written:
        value = getattr(settings, name.lower())
        number, _, unit = default.partition(" ")
        if isinstance(value, tuple):
            assert default == f"`{str(list(value)).replace(chr(39), chr(34))}`", name
        else:
            assert value == float(number) * UNITS.get(unit, 1), name


@pytest.mark.parametrize("command", ["adapter add", "adapter push", "job cancel"])
def test_the_page_shows_the_commands(command: str) -> None:
    assert f"adaptry {command}" in PAGE.read_text(encoding="utf-8")
