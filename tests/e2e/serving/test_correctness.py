"""Correctness: over HTTP every adapter generates the tokens that transformers and PEFT do."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from demo.tasks import HELD_OUT_WORDS, TASKS, UPPER_V2, prompt_for

pytestmark = [pytest.mark.engine]

ROOT = Path(__file__).resolve().parents[3]
WORDS = HELD_OUT_WORDS[:8]
MAX_TOKENS = 24
LONG_PROMPT = "the quick brown fox jumps over the lazy dog and runs away from it again " * 2


class Reference:
    """Greedy decoding with transformers and PEFT, float32, one adapter at a time."""

    def __init__(self) -> None:
        base = AutoModelForCausalLM.from_pretrained(ROOT / "demo" / "base", dtype=torch.float32)
        self._tokenizer = AutoTokenizer.from_pretrained(ROOT / "demo" / "base")
        folders = sorted((ROOT / "demo" / "adapters").iterdir())
        first, *rest = folders
        self._model: Any = PeftModel.from_pretrained(base, first, adapter_name=_name(first.name))
        for folder in rest:
            self._model.load_adapter(folder, adapter_name=_name(folder.name))
        second = ROOT / "demo" / "adapters-v2" / "upper"
        self._model.load_adapter(second, adapter_name=_name("upper-v2"))

    def tokens(self, adapter: str | None, prompt: str, **defaults: Any) -> list[int]:
        """The generated token ids, without the end token."""
        encoded = self._tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
        end = self._tokenizer.eos_token_id
        options = {"max_new_tokens": MAX_TOKENS, "do_sample": False, **defaults}
        with torch.inference_mode():
            if adapter is None:
                with self._model.disable_adapter():
                    output = self._model.generate(**encoded, **options)
            else:
                self._model.set_adapter(_name(adapter))
                output = self._model.generate(**encoded, **options)
        generated: list[int] = output[0, encoded["input_ids"].shape[1] :].tolist()
        return generated[: generated.index(end)] if end in generated else generated


def _name(adapter: str) -> str:
    """PEFT makes it a key of a ModuleDict, where `double` is a method of torch's already."""
    return f"task-{adapter}"


@pytest.fixture(scope="module")
def reference() -> Reference:
    torch.set_num_threads(1)
    return Reference()


def served_tokens(server: Any, model: str, prompt: str) -> list[int]:
    response = server.complete(model, prompt, max_tokens=MAX_TOKENS, return_token_ids=True)
    assert response.status_code == 200, response.text
    choice = response.json()["choices"][0]
    tokens: list[int] = choice["token_ids"]
    return tokens[:-1] if choice["finish_reason"] == "stop" else tokens


@pytest.mark.parametrize("adapter", sorted(TASKS))
def test_token_for_token_before_and_after_eviction(
    server: Any, reference: Reference, adapter: str
) -> None:
    expected = {word: reference.tokens(adapter, prompt_for(word)) for word in WORDS}
    for word in WORDS:
        assert served_tokens(server, adapter, prompt_for(word)) == expected[word]
    others = [name for name in sorted(TASKS) if name != adapter]
    for name in others:  # five others through two slots and four host places: it has to go
        served_tokens(server, name, "x=")
    word = WORDS[0]
    response = server.complete(adapter, prompt_for(word), max_tokens=MAX_TOKENS)
    assert response.headers["x-adaptry-cache"] == "miss"
    assert response.json()["choices"][0]["text"] == TASKS[adapter].answer(word)
    for word in WORDS:
        assert served_tokens(server, adapter, prompt_for(word)) == expected[word]


@pytest.mark.parametrize("adapter", sorted(TASKS))
def test_a_long_prompt_too(server: Any, reference: Reference, adapter: str) -> None:
    """Past what the adapter was trained on, where nothing but the weights decides."""
    expected = reference.tokens(adapter, LONG_PROMPT)
    assert served_tokens(server, adapter, LONG_PROMPT) == expected
    assert served_tokens(server, adapter, LONG_PROMPT) == expected, "with the prefix cached"


def test_the_adapters_do_what_they_are_called(server: Any) -> None:
    for adapter, task in TASKS.items():
        for word in WORDS:
            text = server.complete(adapter, prompt_for(word)).json()["choices"][0]["text"]
            assert text == task.answer(word)


def test_the_base_model_does_none_of_it_and_needs_no_lease(
    server: Any, reference: Reference
) -> None:
    for word in WORDS[:3]:
        response = server.complete("tiny-text-tools", prompt_for(word), return_token_ids=True)
        assert "x-adaptry-version" not in response.headers
        text = response.json()["choices"][0]["text"]
        assert all(text != task.answer(word) for task in TASKS.values())
        tokens = served_tokens(server, "tiny-text-tools", prompt_for(word))
        assert tokens == reference.tokens(None, prompt_for(word))
    assert server.client.get("/api/v1/cache").json()["gpu"] == []


def test_all_together_with_the_base_model_among_them(server: Any, reference: Reference) -> None:
    models = [*sorted(TASKS), "tiny-text-tools"]
    asked = [(model, prompt_for(word)) for word in WORDS for model in models]
    expected = [
        reference.tokens(None if model == "tiny-text-tools" else model, prompt)
        for model, prompt in asked
    ]
    with ThreadPoolExecutor(12) as pool:
        answered = list(pool.map(lambda ask: served_tokens(server, *ask), asked))
    assert answered == expected
    cache = server.client.get("/api/v1/cache").json()
    assert cache["waiting"] == 0
    assert cache["slots_by_state"]["leased"] == 0


def test_a_new_version_answers_immediately_and_the_old_one_never_changes(
    server: Any, reference: Reference, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Also on a prompt whose blocks the prefix cache holds, under the same adapter name."""
    name = "loud"
    server.register(name, ROOT / "demo" / "adapters" / "upper")
    old = served_tokens(server, name, LONG_PROMPT)
    assert old == reference.tokens("upper", LONG_PROMPT)
    assert served_tokens(server, name, LONG_PROMPT) == old
    second = server.register(name, ROOT / "demo" / "adapters-v2" / "upper")
    assert second["reference"] == f"{name}:2"
    assert served_tokens(server, name, LONG_PROMPT) == old, "not promoted yet"
    moved = server.client.put(
        f"/api/v1/adapters/{name}/aliases/default", json={"version": 2, "expected_version": 1}
    )
    assert moved.status_code == 200
    new = served_tokens(server, name, LONG_PROMPT)
    assert new == reference.tokens("upper-v2", LONG_PROMPT)
    assert new != old
    word = WORDS[0]
    response = server.complete(name, prompt_for(word))
    assert response.headers["x-adaptry-version"] == f"{name}:2"
    assert response.json()["choices"][0]["text"] == UPPER_V2.answer(word)
    assert served_tokens(server, f"{name}:1", LONG_PROMPT) == old
    back = server.client.put(f"/api/v1/adapters/{name}/aliases/default", json={"version": 1})
    assert back.status_code == 200
    assert served_tokens(server, name, LONG_PROMPT) == old


def test_the_source_folder_may_go_after_registration(server: Any, reference: Reference) -> None:
    """What was published is ours: the files that were pushed are not needed any more."""
    source = server.state / "pushed"
    shutil.copytree(ROOT / "demo" / "adapters" / "rot13", source)
    config = source / "adapter_config.json"
    config.write_text(config.read_text() + "\n")  # other bytes: another version
    server.register("pushed", source)
    shutil.rmtree(source)
    prompt = prompt_for(WORDS[1])
    assert served_tokens(server, "pushed", prompt) == reference.tokens("rot13", prompt)


TEMPLATE = "{{ messages[-1]['content'] * 2 }}="
DEFAULTS = {"repetition_penalty": 3.0, "max_new_tokens": 9}


def chat(server: Any, model: str, word: str, **options: Any) -> list[int]:
    messages = [{"role": "system", "content": "be loud"}, {"role": "user", "content": word}]
    body = {"model": model, "messages": messages, "temperature": 0, "return_token_ids": True}
    response = server.client.post("/v1/chat/completions", json={**body, **options})
    assert response.status_code == 200, response.text
    choice = response.json()["choices"][0]
    tokens: list[int] = choice["token_ids"]
    return tokens[:-1] if choice["finish_reason"] == "stop" else tokens


def test_an_adapters_own_chat_template_and_defaults(server: Any, reference: Reference) -> None:
    """As PEFT answers with the template and the generation's configuration of the folder."""
    source = server.state / "trained-with"
    shutil.copytree(ROOT / "demo" / "adapters" / "upper", source)
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "demo" / "base")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(source)
    GenerationConfig(**DEFAULTS).save_pretrained(source)
    version = server.register("trained-with", source)
    remarks = [remark["code"] for remark in version["inspection"]["remarks"]]
    assert {"chat_template_differs", "sampling_differs"} <= set(remarks)
    word = WORDS[0]
    own: str = AutoTokenizer.from_pretrained(source).apply_chat_template(
        [{"role": "system", "content": "be loud"}, {"role": "user", "content": word}],
        tokenize=False,
    )
    base = reference.tokens("upper", prompt_for(word))
    assert chat(server, "trained-with", word, max_tokens=MAX_TOKENS) == base, "off by default"

    def switch(**settings: bool) -> None:
        path = "/api/v1/adapters/trained-with"
        assert server.client.patch(path, json=settings).status_code == 200

    switch(serve_chat_template=True)
    templated = reference.tokens("upper", own)
    assert templated != base
    assert chat(server, "trained-with", word, max_tokens=MAX_TOKENS) == templated
    assert chat(server, "upper", word, max_tokens=MAX_TOKENS) == base, "no other adapter's chats"
    switch(serve_sampling_defaults=True)
    penalised = reference.tokens("upper", own, **DEFAULTS)
    assert penalised != templated[:9]
    assert chat(server, "trained-with", word) == penalised
    assert chat(server, "trained-with", word, repetition_penalty=1, max_tokens=MAX_TOKENS) == (
        templated
    ), "what a request says comes first"
    switch(serve_chat_template=False, serve_sampling_defaults=False)
    assert chat(server, "trained-with", word, max_tokens=MAX_TOKENS) == base
