"""Servers of two base models on one registry: neither serves, loads or ends what is the other's."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from tests.support.servers.adaptry_serve import ROOT, ServedDemo

pytestmark = [pytest.mark.servers("forked"), pytest.mark.timeout(900)]

BASE = ROOT / "demo" / "base"


class ServedBase(ServedDemo):
    """Serves another base model under the demo's name, on the same registry."""

    def __init__(self, folder: Path, model: Path) -> None:
        super().__init__(folder)
        self.arguments = ("--served-model-name", "base", "--source-root", str(folder))
        self.model = model
        self.log = folder / f"{model.parent.name}-{model.name}.log"

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


def next_revision(folder: Path) -> Path:
    """Of the demo's name and shape, and other weights: no check of shapes tells it apart."""
    shutil.copytree(BASE, folder)
    model = LlamaForCausalLM.from_pretrained(folder)
    torch.manual_seed(1)
    for weights in model.parameters():
        weights.data.add_(0.2 * weights.std() * torch.randn_like(weights))
    model.save_pretrained(folder)
    return folder


def wide_adapter(folder: Path) -> Path:
    """For the wide model: vLLM fails on it over the demo's, which must condemn nothing."""
    folder.mkdir()
    content = json.loads((BASE / "config.json").read_text())
    numbers = np.random.default_rng(0)
    module = "base_model.model.model.layers.0.self_attn.q_proj"
    width = 64 * content["num_attention_heads"]
    tensors = {
        f"{module}.lora_A.weight": numbers.random((4, 256), dtype=np.float32),
        f"{module}.lora_B.weight": numbers.random((width, 4), dtype=np.float32),
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
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
    revision = ServedBase(tmp_path, next_revision(tmp_path / "revision" / "base"))
    upper = {"reference": "upper"}
    try:
        demo.start()
        for name in ("upper", "stars", "vowels"):
            demo.register(name)
        assert demo.answers_right("upper")
        assert demo.answers_right("vowels")
        assert demo.client.post("/api/v1/cache/pins", json=upper).status_code == 201
        demo.stop()

        revision.start()
        refused = revision.complete("upper")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "other_base_model")
        assert listed(revision) == {"base"}
        assert revision.residents("host") == set()
        bound = revision.client.get("/api/v1/adapters/stars/versions/1").json()["base"]
        path = "/api/v1/adapters/stars/versions/1/recheck"
        assert code_of(revision, path, {}) == (409, "other_base_model")
        taken = revision.client.post(path, json={"from_base": bound})
        assert taken.status_code == 200, taken.text
        assert taken.json()["base"].startswith("base@")
        assert taken.json()["base"] != bound, "of one name, by their weights"
        assert listed(revision) == {"base", "stars"}
        assert revision.complete("stars").headers["x-adaptry-version"] == "stars:1"
        revision.stop()

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
        names = {f"localhost:{served.port}" for served in (demo, revision, wide)}
        assert {server["name"] for server in servers} == names
        pinned = {s["name"]: [pin["reference"] for pin in s["pins"]] for s in servers}
        assert pinned.pop(f"localhost:{demo.port}") == ["upper:1"]
        assert list(pinned.values()) == [[], []]
        source = {"source": str(wide_adapter(tmp_path / "big"))}
        registered = wide.client.post("/api/v1/adapters/big/versions", json=source)
        assert registered.status_code == 201, registered.text
        assert wide.complete("big").status_code == 200
        wide.stop()

        demo.start()
        refused = demo.complete("big")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "other_base_model")
        assert demo.client.get("/api/v1/adapters/big/versions/1").json()["state"] == "ready"
        demo.wait_until(lambda: pins(demo) == ["upper:1"], 30)  # restored beside requests
        demo.wait_until(lambda: "vowels" in demo.residents("host"), 30)
        assert "big" not in demo.residents("host"), "that was in the memory of another"
        assert demo.answers_right("upper")
        assert demo.complete("stars").status_code == 409, "the other one has it now"
    finally:
        for served in (demo, revision, wide):
            served.stop()
            served.client.close()
