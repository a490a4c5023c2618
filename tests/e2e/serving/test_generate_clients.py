"""LoRAX's and TGI's own Python clients, unchanged, against the server."""

import time
from typing import Any

import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import TextGenerationError

from demo.tasks import TASKS
from registry.version import adaptry_version
from tests.support.peer_clients import PYTHON, run_client

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not PYTHON.exists(), reason="the clients are missing: make peers"),
]

UPPER, REVERSE = (TASKS[name].answer("hello") for name in ("upper", "reverse"))

LORAX = """
import asyncio, json, sys
from lorax import AsyncClient, Client

url = sys.argv[1]
client = Client(url)
found = {}
whole = client.generate("hello=", adapter_id="upper", max_new_tokens=8)
found["whole"] = whole.dict()
found["base"] = client.generate("hello=", max_new_tokens=8, details=False).dict()
full = client.generate("hello=", adapter_id="reverse@default", max_new_tokens=8,
                       return_full_text=True, decoder_input_details=True,
                       return_k_alternatives=2, seed=3, temperature=0.01)
found["full"] = full.dict()
found["stopped"] = client.generate("hello=", adapter_id="upper", max_new_tokens=8,
                                   stop_sequences=["LL"]).dict()
found["schema"] = client.generate("hello=", adapter_id="upper", max_new_tokens=20,
    response_format={"type": "json_object", "schema": {"type": "integer"}}).dict()
steps = list(client.generate_stream("hello=", adapter_id="upper", max_new_tokens=8))
found["stream"] = [step.dict() for step in steps]

async def stream():
    asked = AsyncClient(url).generate_stream("hello=", adapter_id="reverse", max_new_tokens=3)
    return [step.dict() async for step in asked]

found["async"] = asyncio.run(stream())
merged = {"ids": ["upper", "reverse"], "weights": [1, 1], "density": 0.5}
failures = {
    "unknown": {"adapter_id": "nobody"},
    "merged": {"merged_adapters": merged},
    "source": {"adapter_id": "upper", "adapter_source": "s3"},
    "typical": {"adapter_id": "upper", "typical_p": 0.5},
    "long": {"adapter_id": "upper", "max_new_tokens": 100000},
}
found["errors"] = {}
for name, options in failures.items():
    for stream in (False, True):
        try:
            if stream:
                list(client.generate_stream("hello=", **options))
            else:
                client.generate("hello=", **options)
            raise SystemExit(f"{name} was answered")
        except Exception as error:
            found["errors"][f"{name} {stream}"] = [type(error).__name__, str(error)]
print(json.dumps(found))
"""

TGI = """
import asyncio, json, sys
from text_generation import AsyncClient, Client
from text_generation.types import Grammar, GrammarType

url = sys.argv[1]
client = Client(url)
found = {}
found["base"] = client.generate("hello=", max_new_tokens=8, best_of=2, do_sample=True,
                                temperature=1.5, top_n_tokens=3).dict()
found["prefill"] = client.generate("hello=", max_new_tokens=4, decoder_input_details=True).dict()
digits = Grammar(type=GrammarType.Regex, value="[0-9]{4}")
found["regex"] = client.generate("hello=", max_new_tokens=8, grammar=digits).dict()
found["stream"] = [step.dict() for step in client.generate_stream("hello=", max_new_tokens=3)]

async def whole():
    return (await AsyncClient(url).generate("hello=", max_new_tokens=2)).dict()

found["async"] = asyncio.run(whole())
try:
    client.generate("hello=", watermark=True)
except Exception as error:
    found["refused"] = [type(error).__name__, str(error)]
try:
    letters = Grammar(type=GrammarType.Regex, value="[a-z]{100}")
    Client(url, timeout=0.05).generate("hello=", max_new_tokens=100, grammar=letters)
    found["timeout"] = "answered"
except Exception as error:
    found["timeout"] = type(error).__name__
print(json.dumps(found, default=str))
"""


def text_of(steps: list[Any]) -> str:
    return "".join(step["token"]["text"] for step in steps if not step["token"]["special"])


def test_loraxs_client_gets_texts_details_streams_and_errors(server: Any) -> None:
    found = run_client(LORAX, str(server.base_url))
    whole, details = found["whole"], found["whole"]["details"]
    assert whole["generated_text"] == UPPER
    assert (details["finish_reason"], details["prompt_tokens"] > 0) == ("eos_token", True)
    assert details["generated_tokens"] == len(details["tokens"])
    assert [token["special"] for token in details["tokens"]][-2:] == [False, True]
    assert text_of([{"token": token} for token in details["tokens"]]) == UPPER
    assert all(token["logprob"] <= 0 for token in details["tokens"])
    assert found["base"] == {"generated_text": "hello", "details": None}

    full = found["full"]
    assert full["generated_text"] == f"hello={REVERSE}"
    prefill = full["details"]["prefill"]
    assert "".join(token["text"] for token in prefill).endswith("hello=")
    assert (len(prefill), prefill[0]["logprob"]) == (full["details"]["prompt_tokens"], None)
    assert full["details"]["seed"] == 3
    for token in full["details"]["tokens"]:
        best, second = token["alternative_tokens"]
        assert best["logprob"] >= second["logprob"]
        assert (best["id"], best["text"]) == (token["id"], token["text"])

    assert found["stopped"]["generated_text"] == UPPER[: UPPER.index("LL") + 2]
    assert found["stopped"]["details"]["finish_reason"] == "stop_sequence"
    assert int(found["schema"]["generated_text"]) is not None

    *steps, last = found["stream"]
    assert text_of([*steps, last]) == UPPER == last["generated_text"]
    assert all(step["generated_text"] is None and step["details"] is None for step in steps)
    assert last["details"]["generated_tokens"] == len(steps) + 1
    assert last["details"]["prompt_tokens"] == details["prompt_tokens"]
    assert text_of(found["async"]) == REVERSE[: len(text_of(found["async"]))] != ""
    assert found["async"][-1]["details"]["finish_reason"] == "length"

    kinds = {name: kind for name, (kind, _) in found["errors"].items()}
    assert kinds == {
        f"{name} {stream}": "NotFoundError" if name == "unknown" else "ValidationError"
        for name in ("unknown", "merged", "source", "typical", "long")
        for stream in (False, True)
    }
    assert "nobody" in found["errors"]["unknown False"][1]
    assert "add_weighted_adapter" in found["errors"]["merged True"][1]


def test_tgis_client_gets_texts_details_streams_and_errors(server: Any) -> None:
    found = run_client(TGI, str(server.base_url))
    details = found["base"]["details"]
    assert len(details["best_of_sequences"]) == 1
    assert [len(step) for step in details["top_tokens"]] == [3] * details["generated_tokens"]
    assert found["prefill"]["generated_text"] == "hell"
    assert "".join(token["text"] for token in found["prefill"]["details"]["prefill"])[-1] == "="
    assert found["regex"]["generated_text"].isdecimal()
    assert len(found["regex"]["generated_text"]) == 4
    assert text_of(found["stream"]) == "hel" == found["stream"][-1]["generated_text"]
    assert found["async"]["generated_text"] == "he"
    assert found["refused"][0] == "ValidationError"
    assert "watermark is not supported" in found["refused"][1]
    assert found["timeout"] == "ReadTimeout"
    deadline = time.monotonic() + 20
    while any(server.metrics().get(name) for name in running(server)):
        assert time.monotonic() < deadline, "a request runs on whose client has left"
        time.sleep(0.1)


def test_huggingface_hubs_client_generates_and_streams(server: Any) -> None:
    client = InferenceClient(base_url=str(server.base_url))
    options: Any = {"adapter_id": "upper", "max_new_tokens": 8}
    assert client.text_generation("hello=", **options) == UPPER
    steps = list(client.text_generation("hello=", stream=True, details=True, **options))
    assert "".join(step.token.text for step in steps if not step.token.special) == UPPER
    assert steps[-1].generated_text == UPPER
    whole = client.text_generation("hello=", details=True, **options)
    assert (whole.generated_text, whole.details.finish_reason) == (UPPER, "eos_token")
    with pytest.raises(TextGenerationError, match="nobody"):
        client.text_generation("hello=", adapter_id="nobody")


def test_huggingface_hubs_client_reads_the_servers_info(server: Any) -> None:
    client = InferenceClient(str(server.base_url), provider="hf-inference")
    info = client.get_endpoint_info()
    (base, *_) = server.client.get("/v1/models").json()["data"]
    assert (info["model_id"], info["max_total_tokens"]) == (base["root"], base["max_model_len"])
    assert info["max_input_tokens"] == info["max_input_length"] == base["max_model_len"] - 1
    assert (info["model_dtype"], info["model_device_type"]) == ("float32", "cpu")
    assert info["model_pipeline_tag"] == "text-generation"
    assert info["version"] == adaptry_version()
    assert client.health_check()


def running(server: Any) -> list[str]:
    return [name for name in server.metrics() if name.startswith("vllm:num_requests_running")]
