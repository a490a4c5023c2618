"""Writes docs/openapi.json, the client's models, and docs/reference: `make reference`."""

from docs.generate import client_models
from docs.generate.application import openapi_document

described = openapi_document()
document = client_models.own_document(described)
client_models.DOCUMENT.write_text(client_models.written(document), encoding="utf-8")
client_models.write_models(document)

# The commands import the client, whose models had to be written first.
from docs.generate.pages import FOLDER, http_pages, plain_pages  # noqa: E402

FOLDER.mkdir(exist_ok=True)
for name, text in (plain_pages() | http_pages(described)).items():
    (FOLDER / name).write_text(text, encoding="utf-8")
