"""docs/reference on REST is what the real application's OpenAPI document says."""

import re
from typing import Any

import pytest

from docs.generate.application import openapi_document
from docs.generate.client_models import DOCUMENT, own_document, written
from docs.generate.pages import FOLDER, http_pages
from docs.generate.rest import own_paths
from registry.auth.scopes import PUBLIC, scopes_for

pytestmark = [pytest.mark.engine]

# Routes of other servers' clients, and the page that tells of each
OTHERS = {
    "/v1/load_lora_adapter": "from-vllm.md",
    "/v1/unload_lora_adapter": "from-vllm.md",
    "/adapters": "from-vllm.md",
    "/adapters/{name}": "from-vllm.md",
    "/v1/loras": "from-dynamo.md",
    "/v1/loras/{lora_name}": "from-dynamo.md",
    "/": "from-lorax.md",
    "/generate_stream": "from-lorax.md",
    "/info": "from-tgi.md",
}


@pytest.fixture(scope="module")
def document(live_server: Any) -> Any:
    return live_server.client.get("/openapi.json").json()


def test_the_pages_are_what_the_server_describes(document: Any) -> None:
    for name, text in http_pages(document).items():
        assert (FOLDER / name).read_text(encoding="utf-8") == text, "make reference"


def test_the_document_is_what_the_server_describes(document: Any) -> None:
    found = written(own_document(document))
    assert DOCUMENT.read_text(encoding="utf-8") == found, "make reference"


def test_swagger_opens_on_our_own_routes_with_a_place_for_a_key(document: Any) -> None:
    assert [tag["name"] for tag in document["tags"]][:3] == ["registry", "jobs", "cache"]
    assert all(tag["description"] for tag in document["tags"])
    operations = [each for path in document["paths"].values() for each in path.values()]
    assert {tag for each in operations for tag in each["tags"]} <= {
        tag["name"] for tag in document["tags"]
    }
    assert next(iter(document["paths"])).startswith("/api/v1/")
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert document["security"] == [{"key": []}, {}]


def test_swagger_needs_no_other_host(live_server: Any) -> None:
    page = live_server.client.get("/docs")
    assert not re.search(r"(src|href)=.https?:", page.text)
    for path in re.findall(r"(?:src|href)=.([\w./-]+)", page.text):
        found = live_server.client.get(f"/{path}")
        assert found.status_code == 200, path
        assert scopes_for("GET", f"/{path}") == PUBLIC, "a browser that loads it sends no key"
    assert live_server.client.get("/static/swagger-ui.css").status_code == 404


def test_the_generator_needs_no_engine_to_know_the_same_routes(document: Any) -> None:
    without = openapi_document()
    assert own_paths(without) == own_paths(document)
    assert len(own_paths(without)) > 30


def test_nothing_that_the_server_adds_to_vllm_is_left_out(document: Any) -> None:
    """What is not on the page is a route that vLLM has by itself."""
    from engine.vllm import compat as vllm_compat

    arguments = vllm_compat.argument_parser().parse_args(["any"])
    stock = vllm_compat.build_app()(arguments, ("generate",), None).openapi()["paths"]
    assert set(document["paths"]) - set(own_paths(document)) <= set(stock) | OTHERS.keys()
    assert OTHERS.keys() <= set(document["paths"])
    for path, page in OTHERS.items():
        text = (FOLDER.parent / "howto" / page).read_text(encoding="utf-8")
        assert path.partition("{")[0] in text, path
