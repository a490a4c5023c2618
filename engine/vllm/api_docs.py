"""API documentation at /docs: Swagger from vLLM's own copy, nothing from foreign hosts.

vLLM serves its copy under /static, where a server that requires keys would refuse the browser.
"""

from importlib.util import find_spec
from pathlib import Path

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

_PLACE = "entrypoints/serve/instrumentator/static"
_REPLACED = frozenset({"/docs", "/docs/oauth2-redirect", "/redoc", "/static"})


def serve_api_docs(app: FastAPI) -> None:
    """Replace vLLM's page, unless `--disable-fastapi-docs` took the document away."""
    folder = _static_folder()
    if app.openapi_url is None or folder is None:
        return
    routes = app.router.routes
    routes[:] = [route for route in routes if getattr(route, "path", "") not in _REPLACED]
    app.mount("/docs/assets", StaticFiles(directory=folder), name="docs-assets")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="openapi.json",  # relative, behind any prefix
            title="Adaptry: API",
            swagger_js_url="docs/assets/swagger-ui-bundle.js",
            swagger_css_url="docs/assets/swagger-ui.css",
            swagger_favicon_url="console/icon.svg",
            swagger_ui_parameters={"docExpansion": "none", "filter": True},
        )


def _static_folder() -> Path | None:
    spec = find_spec("vllm")
    places = (Path(place, _PLACE) for place in (spec and spec.submodule_search_locations) or ())
    return next((place for place in places if (place / "swagger-ui.css").is_file()), None)
