"""The registry's API behind the guard, asked with one key or another."""

import httpx

from registry.auth.keys import KeyService
from registry.auth.scopes import Scope


class Asked:
    """One key for each name; `says` is the status, and the code of a problem."""

    def __init__(self, http: httpx.AsyncClient, keys: KeyService) -> None:
        self.http = http
        self._service = keys
        self.texts: dict[str, str] = {}

    async def key(self, name: str, *scopes: Scope) -> None:
        self.texts[name], _ = await self._service.create(name, scopes, actor="tests")

    async def ask(self, key: str, method: str, path: str, **options: object) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.texts[key]}"}
        return await self.http.request(method, f"/api/v1{path}", headers=headers, **options)  # type: ignore[arg-type]

    async def says(self, key: str, method: str, path: str, **options: object) -> tuple[int, str]:
        response = await self.ask(key, method, path, **options)
        return response.status_code, response.json().get("code", "") if response.content else ""
