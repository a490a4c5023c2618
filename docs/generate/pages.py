"""Generated pages, and their folder."""

from pathlib import Path
from typing import Any

from docs.generate.command_line import command_page
from docs.generate.errors import error_page
from docs.generate.rest import rest_page, schema_page
from docs.generate.settings import setting_page

FOLDER = Path(__file__).parents[1] / "reference"


def plain_pages() -> dict[str, str]:
    """Those that need no application."""
    return {"cli.md": command_page(), "settings.md": setting_page(), "errors.md": error_page()}


def http_pages(document: dict[str, Any]) -> dict[str, str]:
    """Those of an application's OpenAPI document."""
    return {"rest.md": rest_page(document), "schemas.md": schema_page(document)}
