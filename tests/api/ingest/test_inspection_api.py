"""A verdict without registering, and what is kept of it with a version."""

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

AdapterMaker = Callable[..., Path]


async def inspect(client: httpx.AsyncClient, source: Path | str) -> httpx.Response:
    return await client.post("/inspect", json={"source": str(source)})


def kept(tmp_path: Path) -> list[str]:
    """The files in the store, but for spare ones, which are empty."""
    files = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    return [file.name for file in files if file.parent.name != "spare"]


async def test_a_good_adapter_is_described_and_not_registered(
    client: httpx.AsyncClient, make_adapter: AdapterMaker, tmp_path: Path
) -> None:
    source = make_adapter("good", rank=4)
    response = await inspect(client, source)
    assert response.status_code == 200
    verdict = response.json()
    assert verdict["accepted"] is True
    assert verdict["problems"] == []
    [remark] = verdict["adapter"]["inspection"]["remarks"]
    assert remark["code"] == "engine_not_asked"
    assert verdict["adapter"] == {
        "kind": "lora",
        "rank": 4,
        "alpha": 8,
        "target_modules": ["q_proj"],
        "dtype": "float32",
        "base_model": "tiny",
        "size_bytes": sum(file.stat().st_size for file in source.iterdir()),
        "inspection": {
            "engine": None,
            "shapes_checked": True,
            "modules": 1,
            "ranks": {"4": 1},
            "tensors": 2,
            "parameters": 64,
            "files": {file.name: file.stat().st_size for file in source.iterdir()},
            "remarks": [remark],
            "invocation_tokens": None,
        },
    }
    assert (await client.get("/adapters")).json()["items"] == []
    assert kept(tmp_path) == []


async def test_all_problems_of_a_bad_adapter_are_reported(
    client: httpx.AsyncClient, make_adapter: AdapterMaker, tmp_path: Path
) -> None:
    source = make_adapter("bad")
    config = json.loads((source / "adapter_config.json").read_text())
    config.update(r=64, use_dora=True)
    (source / "adapter_config.json").write_text(json.dumps(config))
    tensors = load_file(source / "adapter_model.safetensors")
    tensors = {name: tensor[:, :2] for name, tensor in tensors.items()}
    odd: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = {
        f"odd.{n}": np.zeros(1, np.float32) for n in range(3)
    }
    save_file({**tensors, **odd}, source / "adapter_model.safetensors")
    response = await inspect(client, source)
    assert response.status_code == 200
    verdict = response.json()
    assert verdict["accepted"] is False
    assert verdict["adapter"] is None
    found = [(problem["code"], problem["count"]) for problem in verdict["problems"]]
    assert found == [
        ("dora_unsupported", 1),
        ("rank_too_large", 1),
        ("unknown_tensor", 3),
        ("shape_mismatch", 1),
    ]
    assert all(problem["detail"] for problem in verdict["problems"])
    assert kept(tmp_path) == []
    refused = await client.post("/adapters/bot/versions", json={"source": str(source)})
    assert (refused.status_code, refused.json()["code"]) == (422, "dora_unsupported")


async def test_a_link_that_leads_out_is_a_verdict_and_not_followed(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    source = make_adapter("linked")
    (source / "adapter_config.json").unlink()
    (source / "adapter_config.json").symlink_to("/etc/hostname")
    verdict = (await inspect(client, source)).json()
    assert [problem["code"] for problem in verdict["problems"]] == ["unsafe_file"]


@pytest.mark.parametrize(
    ("source", "status", "code"),
    [
        ("/etc", 403, "source_not_allowed"),
        ("../store", 403, "source_not_allowed"),
        ("nothing-here", 404, "source_not_found"),
        ("", 422, "invalid_request"),
        ("x" * 5000, 422, "invalid_request"),
    ],
    ids=["outside", "outside by dots", "nowhere", "empty", "long"],
)
async def test_a_source_that_may_not_be_read_is_a_problem(
    client: httpx.AsyncClient, source: str, status: int, code: str
) -> None:
    response = await inspect(client, source)
    assert (response.status_code, response.json()["code"]) == (status, code)


async def test_an_adapter_that_is_too_large_is_a_problem(
    client: httpx.AsyncClient, make_adapter: AdapterMaker, tmp_path: Path
) -> None:
    source = make_adapter("large")
    with (source / "adapter_model.safetensors").open("ab") as file:
        file.truncate(2_000_000)
    response = await inspect(client, source)
    assert (response.status_code, response.json()["code"]) == (413, "source_too_large")
    assert kept(tmp_path) == []


async def test_what_was_checked_is_kept_with_the_version(
    client: httpx.AsyncClient, make_adapter: AdapterMaker
) -> None:
    source = make_adapter("kept")
    said = (await inspect(client, source)).json()["adapter"]["inspection"]
    body = {"source": str(source)}
    registered = (await client.post("/adapters/bot/versions", json=body)).json()
    assert registered["inspection"] == said
    assert (await client.get("/adapters/bot/versions/1")).json()["inspection"] == said
    listed = (await client.get("/adapters/bot/versions")).json()["items"]
    assert [version["inspection"] for version in listed] == [said]
