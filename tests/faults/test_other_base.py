"""Servers of two base models on one registry: neither serves, loads or ends what is the other's."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.support.servers.adaptry_serve import ROOT, ServedDemo

pytestmark = [pytest.mark.servers, pytest.mark.timeout(900)]

BASE = ROOT / "demo" / "base"


class ServedBase(ServedDemo):
    """Serves another base model under the demo's name, on the same registry."""

    def __init__(self, folder: Path, model: Path) -> None:
        super().__init__(folder)
        self.arguments = ("--served-model-name", "base")
        self.model = model
        self.log = folder / f"{model.name}.log"

    def command(self, port: int) -> list[str]:
        return [str(self.model) if part == str(BASE) else part for part in super().command(port)]


def wide_model(folder: Path) -> Path:
    """Of the demo's architecture and twice its width: vLLM would take the demo's adapters."""
    content = json.loads((BASE / "config.json").read_text())
    torch.manual_seed(1)
    wide = LlamaConfig(**content | {"hidden_size": 256, "intermediate_size": 640, "head_dim": 64})
    LlamaForCausalLM(wide).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(BASE / name, folder)
    return folder


def listed(served: ServedDemo) -> set[str]:
    return {model["id"] for model in served.client.get("/v1/models").json()["data"]}


def pins(served: ServedDemo) -> list[str]:
    items = served.client.get("/api/v1/cache/pins").json()["items"]
    return [pin["reference"] for pin in items]


def code_of(served: ServedDemo, path: str, body: dict[str, Any]) -> tuple[int, str]:
    response = served.client.post(path, json=body)
    return response.status_code, response.json().get("code", "")


def test_a_server_refuses_what_belongs_to_another_base_model(tmp_path: Path) -> None:
    demo = ServedBase(tmp_path, BASE)
    wide = ServedBase(tmp_path, wide_model(tmp_path / "wide"))
    upper = {"reference": "upper"}
    try:
        demo.start()
        demo.register("upper")
        assert demo.answers_right("upper")
        assert demo.client.post("/api/v1/cache/pins", json=upper).status_code == 201
        demo.stop()

        wide.start()
        refused = wide.complete("upper")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "other_base_model")
        assert listed(wide) == {"base"}
        assert pins(wide) == []
        assert wide.residents("host") == set(), "nothing of the other was warmed up"
        for path in ("/api/v1/cache/pins", "/api/v1/cache/prefetch"):
            assert code_of(wide, path, upper) == (409, "other_base_model")
        path = "/api/v1/adapters/upper/versions/1/recheck"
        bound = wide.client.get("/api/v1/adapters/upper/versions/1").json()["base"]
        assert bound.startswith("base@")
        assert code_of(wide, path, {}) == (409, "other_base_model")
        assert code_of(wide, path, {"from_base": bound}) == (422, "shape_mismatch")
        servers = wide.client.get("/api/v1/cache/servers").json()["items"]
        names = {f"localhost:{served.port}": served for served in (demo, wide)}
        assert {server["name"] for server in servers} == set(names)
        side_by_side = {server["is_this"]: server for server in servers}
        assert [pin["reference"] for pin in side_by_side[False]["pins"]] == ["upper:1"]
        assert side_by_side[True]["pins"] == []
        wide.stop()

        demo.start()
        assert pins(demo) == ["upper:1"], "it found its own again"
        assert demo.answers_right("upper")
    finally:
        for served in (demo, wide):
            served.stop()
            served.client.close()
