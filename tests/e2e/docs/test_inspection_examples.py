"""The examples of docs/inspection.md, run against the server as they stand there."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.docs.forked_commands import folder_of_commands

pytestmark = [pytest.mark.engine]

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "inspection.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(
    r"^```sh\n(.*?)^```(?:\n\n```text\n(.*?)^```)?", PAGE, re.MULTILINE | re.DOTALL
)


def run(server: Any, command: str) -> subprocess.CompletedProcess[str]:
    here = command.replace(".venv/bin/adaptry", str(folder_of_commands() / "adaptry"))
    return subprocess.run(
        ["bash", "-c", here.replace("http://127.0.0.1:8000", server.base_url)],
        cwd=ROOT,
        env={**os.environ, "ADAPTRY_SERVER": server.base_url},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_prints_what_is_printed_there(server: Any) -> None:
    command, shown = EXAMPLES[0]
    done = run(server, command)
    assert done.returncode == 0, done.stderr
    assert done.stdout == shown


def test_the_request_is_answered_as_it_says(server: Any) -> None:
    command, _ = EXAMPLES[1]
    answer = json.loads(run(server, command).stdout)
    assert (answer["accepted"], answer["problems"]) == (True, [])
    registered = server.client.get("/api/v1/adapters/upper/versions/1").json()
    assert registered["inspection"] == answer["adapter"]["inspection"]
    assert answer["adapter"]["inspection"]["shapes_checked"] is True


def test_the_probe_passes(server: Any) -> None:
    command, _ = EXAMPLES[2]
    assert len(EXAMPLES) == 3
    assert json.loads(run(server, command).stdout)["passed"] is True


def test_a_refusal_is_a_line_for_each_defect_and_an_exit_code(server: Any) -> None:
    folder = server.state / "refused"
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 64, "lora_alpha": 8, "use_dora": True}
    (folder / "adapter_config.json").write_text(json.dumps({**config, "target_modules": []}))
    done = run(server, f".venv/bin/adaptry adapter inspect {folder}")
    assert done.returncode == 1
    assert not done.stderr
    first, *problems = done.stdout.splitlines()
    assert first == "refused"
    codes = [line.partition(":")[0] for line in problems]
    assert codes == ["dora_unsupported", "rank_too_large", "weights_missing"]
