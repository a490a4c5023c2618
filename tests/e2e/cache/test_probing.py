"""Probe over HTTP, on the real engine."""

import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from safetensors.torch import load_file, save_file

pytestmark = [pytest.mark.engine]

ROOT = Path(__file__).resolve().parents[3]
UPPER = ROOT / "demo" / "adapters" / "upper"


def probed(server: Any, reference: str) -> httpx.Response:
    name, _, number = reference.partition(":")
    response: httpx.Response = server.client.post(
        f"/api/v1/adapters/{name}/versions/{number}/probe"
    )
    return response


def scaled(server: Any, name: str, factor: float) -> str:
    """`upper` with every B multiplied, or by a large factor A and B of one module; its reference.

    That one is in the last layer, behind its attention: what is not finite must not get into the
    KV cache, where vLLM's kernel for the CPU meets it again in later requests.
    """
    part = "layers.3.mlp.down_proj" if factor > 1 else "lora_B"
    folder = server.state / name
    shutil.copytree(UPPER, folder)
    weights = folder / "adapter_model.safetensors"
    tensors = {
        key: tensor * factor if part in key else tensor
        for key, tensor in load_file(weights).items()
    }
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())
    save_file(tensors, weights, metadata={"format": "pt"})
    reference: str = server.register(name, folder)["reference"]
    return reference


def version_of(server: Any, reference: str) -> dict[str, Any]:
    name, _, number = reference.partition(":")
    version: dict[str, Any] = server.client.get(f"/api/v1/adapters/{name}/versions/{number}").json()
    return version


@pytest.mark.parametrize("reference", ["upper:1", "stars:1"])
def test_a_trained_adapter_passes(server: Any, reference: str) -> None:
    response = probed(server, reference)
    assert response.status_code == 200, response.text
    result = response.json()
    assert (result["reference"], result["passed"], result["code"]) == (reference, True, None)
    assert result["difference"] > 0.1
    assert result["noise"] < 1e-4
    assert version_of(server, reference)["state"] == "ready"
    cache = server.client.get("/api/v1/cache").json()
    assert cache["slots_by_state"]["leased"] == 0


@pytest.mark.parametrize(
    ("name", "factor", "code"),
    [("faint", 1e-20, "probe_no_difference"), ("deafening", 1e30, "probe_not_finite")],
)
def test_a_broken_adapter_that_passes_inspection_fails_its_probe_and_is_left_to_people(
    server: Any, name: str, factor: float, code: str
) -> None:
    """What one engine computes is no proof about the version: that engine may be sick."""
    reference = scaled(server, name, factor)
    response = probed(server, reference)
    assert response.status_code == 200, response.text
    assert (response.json()["passed"], response.json()["code"]) == (False, code)
    assert version_of(server, reference)["state"] == "ready"
    assert probed(server, reference).json()["code"] == code, "it is loaded and compared again"
    body = {"reason": "by its probe", "code": code}
    path = f"/api/v1/adapters/{name}/versions/1/quarantine"
    assert server.client.post(path, json=body).status_code == 200
    assert probed(server, reference).status_code == 409, "it is not servable any more"
    word = server.complete("upper", "hello=").json()["choices"][0]["text"]
    assert word == "HELLO", "no other adapter is harmed"


@pytest.mark.parametrize(
    ("path", "status"),
    [("nobody/versions/1", 404), ("upper/versions/99", 404), ("upper/versions/0", 422)],
)
def test_a_version_that_is_not_there_is_a_problem(server: Any, path: str, status: int) -> None:
    response = server.client.post(f"/api/v1/adapters/{path}/probe")
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"


def test_an_alias_moves_only_to_a_version_that_passes(server: Any) -> None:
    server.register("probed", UPPER)
    server.register("probed", ROOT / "demo" / "adapters-v2" / "upper")
    alias = "/api/v1/adapters/probed/aliases/default"
    moved = server.client.put(alias, json={"version": 2, "probe": True})
    assert (moved.status_code, moved.json()["version"]) == (200, 2), moved.text
    assert scaled(server, "probed", 1e-20) == "probed:3"
    refused = server.client.put(alias, json={"version": 3, "probe": True})
    assert (refused.status_code, refused.json()["code"]) == (422, "probe_no_difference")
    assert version_of(server, "probed:3")["state"] == "ready", "no alias moved, and that is all"
    answered = server.complete("probed", "hello=")
    assert answered.headers["x-adaptry-version"] == "probed:2"
