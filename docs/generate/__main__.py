"""Writes docs/reference: `make reference`."""

from docs.generate.application import openapi_document
from docs.generate.pages import FOLDER, http_pages, plain_pages

FOLDER.mkdir(exist_ok=True)
for name, text in (plain_pages() | http_pages(openapi_document())).items():
    (FOLDER / name).write_text(text, encoding="utf-8")
