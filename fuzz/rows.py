"""Rows of every kind, so that ids and names that the document gives as examples are found."""

from pathlib import Path

import httpx
from fastapi import FastAPI

API = "http://fuzz/api/v1"
SECOND_VERSIONS = "adapters-v2"


async def make_rows(app: FastAPI, key: str, demo: Path) -> None:
    """Adapters with versions in several states, aliases, a job, a webhook, a pin, keys."""
    headers = {"authorization": f"Bearer {key}"}
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url=API, headers=headers) as http:
        for folder in sorted((demo / "adapters").iterdir()):
            await _post(http, f"/adapters/{folder.name}/versions", {"source": str(folder)})
        second = str(demo / SECOND_VERSIONS / "upper")
        more = {"tags": ["fuzz"], "metadata": {"team": {"name": "x"}}, "parent": "upper:1"}
        await _post(http, "/adapters/upper/versions", {"source": second, **more})
        await _put(http, "/adapters/upper/aliases/prod", {"version": 1})
        await _put(http, "/adapters/upper/aliases/prod", {"version": 2, "reason": "better"})
        await _post(http, "/adapters/vowels/versions/1/deprecate", {"reason": "old"})
        await _post(http, "/adapters/stars/versions/1/quarantine", {"reason": "odd"})
        files = {"files": ("adapter_config.json", b"{}")}
        (await http.post("/adapters/sent/versions?wait=0", files=files)).raise_for_status()
        await _post(http, "/webhooks", {"url": "http://127.0.0.1:9/", "description": "nobody"})
        await _post(http, "/cache/pins", {"reference": "upper", "tier": "host"})
        for name in ("app", "ci"):
            await _post(http, "/keys", {"name": name, "scopes": ["infer"]})


async def _post(http: httpx.AsyncClient, path: str, body: object) -> None:
    (await http.post(path, json=body)).raise_for_status()


async def _put(http: httpx.AsyncClient, path: str, body: object) -> None:
    (await http.put(path, json=body)).raise_for_status()
