"""What an adapter was trained with, compared with what the base model has."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file
from transformers import AutoTokenizer, GenerationConfig

from registry.errors import InvalidAdapter
from registry.errors.defects import Remark
from registry.inspection.base_model import BaseModel, read_base_model
from registry.inspection.inspector import Inspection, inspect_adapter
from registry.inspection.safetensors_header import WEIGHTS_FILE
from registry.inspection.training_files import FOLDER, NAMES, read_training_facts

DEMO = Path(__file__).resolve().parents[3] / "demo"
VOCABULARY = 264  # of the demo's base model, whose tokenizer has 258
TRAINING = {
    *(Remark.CHAT_TEMPLATE_DIFFERS, Remark.TOKENIZER_DIFFERS, Remark.TOKENS_ADDED),
    *(Remark.EOS_DIFFERS, Remark.SAMPLING_DIFFERS, Remark.TRAINING_UNREAD),
}
TEMPLATE = "{% for m in messages %}{{ m['content'] }}!{% endfor %}"


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return read_base_model("demo", DEMO / "base")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The demo's adapter as it is in quarantine: what else its trainer saved is beside it."""
    shutil.copytree(DEMO / "adapters" / "upper", tmp_path / "adapter")
    (tmp_path / "adapter" / FOLDER).mkdir()
    return tmp_path / "adapter"


def save_tokenizer(folder: Path, change: Callable[[Any], object] = lambda tokenizer: None) -> None:
    """As transformers saves the base model's, changed."""
    tokenizer = AutoTokenizer.from_pretrained(DEMO / "base")
    change(tokenizer)
    tokenizer.save_pretrained(folder / FOLDER)


def judged(folder: Path, base: BaseModel) -> Inspection:
    return inspect_adapter(folder, base, 16)


def codes(found: Inspection) -> list[str]:
    """Of what it was trained with: other remarks have their own tests."""
    found_codes = [remark["code"] for remark in found.report["remarks"]]
    return [code for code in found_codes if code in TRAINING]


def test_the_base_models_own_tokenizer_is_silent(folder: Path, base: BaseModel) -> None:
    save_tokenizer(folder)
    shutil.copy(DEMO / "base" / "generation_config.json", folder / FOLDER)
    found = judged(folder, base)
    assert codes(found) == []
    assert (found.chat_template, found.sampling_defaults) == (None, None)


def test_an_older_release_of_the_library_saved_the_same(folder: Path, base: BaseModel) -> None:
    """Merges as texts, other spacing, and what only concerned the training."""
    file = DEMO / "base" / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    merges = tokenizer["model"]["merges"]
    tokenizer["model"]["merges"] = [m if isinstance(m, str) else " ".join(m) for m in merges]
    tokenizer["padding"], tokenizer["truncation"] = {"pad_id": 0}, {"max_length": 9}
    (folder / FOLDER / "tokenizer.json").write_text(json.dumps(tokenizer, indent=3))
    assert codes(judged(folder, base)) == []


def test_a_chat_template_of_its_own(folder: Path, base: BaseModel) -> None:
    save_tokenizer(folder, lambda tokenizer: setattr(tokenizer, "chat_template", TEMPLATE))
    found = judged(folder, base)
    assert codes(found) == ["chat_template_differs"]
    assert found.chat_template == TEMPLATE


@pytest.mark.parametrize(
    "written",
    [TEMPLATE, [{"name": "tool", "template": "x"}, {"name": "default", "template": TEMPLATE}]],
)
def test_a_chat_template_in_the_tokenizers_configuration(
    folder: Path, base: BaseModel, written: object
) -> None:
    (folder / FOLDER / "tokenizer_config.json").write_text(json.dumps({"chat_template": written}))
    assert judged(folder, base).chat_template == TEMPLATE


def test_another_tokenizer(folder: Path, base: BaseModel) -> None:
    tokenizer = json.loads((DEMO / "base" / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (folder / FOLDER / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert codes(judged(folder, base)) == ["tokenizer_differs"]


def test_a_tokenizer_too_large_to_be_the_same_is_not_parsed(folder: Path, base: BaseModel) -> None:
    """JSON takes many times its size in memory, and it is anyone's file."""
    (folder / FOLDER / "tokenizer.json").write_text("[" * 200_000)
    assert codes(judged(folder, base)) == ["tokenizer_differs"]


def test_more_tokens_that_the_base_model_has_room_for(folder: Path, base: BaseModel) -> None:
    save_tokenizer(folder, lambda tokenizer: tokenizer.add_tokens(["<|im_start|>", "<|im_end|>"]))
    found = judged(folder, base)
    assert codes(found) == ["tokens_added"]
    assert "'<|im_start|>' (258)" in found.report["remarks"][0]["detail"]


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "added_tokens.json"])
def test_tokens_beyond_the_vocabulary_are_refused(folder: Path, base: BaseModel, name: str) -> None:
    token = {"content": "<new>", "special": True}
    content = {
        "tokenizer.json": {"added_tokens": [{**token, "id": VOCABULARY}]},
        "tokenizer_config.json": {"added_tokens_decoder": {str(VOCABULARY): token}},
        "added_tokens.json": {"<new>": VOCABULARY},
    }[name]
    (folder / FOLDER / name).write_text(json.dumps(content))
    with pytest.raises(InvalidAdapter) as caught:
        judged(folder, base)
    assert caught.value.code == "tokens_beyond_vocabulary"
    assert "'<new>' (264)" in caught.value.detail
    (folder / FOLDER / name).write_text(json.dumps(content).replace("264", "263"))
    assert codes(judged(folder, base)) == ["tokens_added"]


def test_embeddings_of_new_tokens_are_refused(folder: Path, base: BaseModel) -> None:
    save_file({"embed": load_file(folder / WEIGHTS_FILE).popitem()[1]}, folder / FOLDER / NAMES[-1])
    with pytest.raises(InvalidAdapter) as caught:
        judged(folder, base)
    assert caught.value.code == "new_embeddings"


def test_another_end_of_its_texts(folder: Path, base: BaseModel) -> None:
    save_tokenizer(folder, lambda tokenizer: setattr(tokenizer, "eos_token", "<pad>"))
    assert codes(judged(folder, base)) == ["eos_differs"]


def test_defaults_of_its_generation(folder: Path, base: BaseModel) -> None:
    GenerationConfig(
        do_sample=True, temperature=0.3, top_p=0.8, eos_token_id=[1, 0], max_new_tokens=7
    ).save_pretrained(folder / FOLDER)
    found = judged(folder, base)
    assert codes(found) == ["eos_differs", "sampling_differs"]
    assert found.sampling_defaults == {
        "temperature": 0.3,
        "top_p": 0.8,
        "max_new_tokens": 7,
        "eos_token_id": [0, 1],
    }


def test_defaults_that_vllm_would_refuse_are_left_out(folder: Path, base: BaseModel) -> None:
    bad = {"temperature": -1, "top_p": 0, "top_k": 0.5, "min_p": 2, "max_new_tokens": 0}
    content = {**bad, "repetition_penalty": 0, "presence_penalty": 9, "frequency_penalty": 1}
    (folder / FOLDER / "generation_config.json").write_text(json.dumps(content))
    assert judged(folder, base).sampling_defaults == {"frequency_penalty": 1}


def test_without_the_base_models_files_nothing_is_compared(folder: Path) -> None:
    save_tokenizer(folder, lambda tokenizer: setattr(tokenizer, "chat_template", TEMPLATE))
    found = judged(folder, BaseModel("unknown", None))
    assert codes(found) == []
    assert found.chat_template == TEMPLATE


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"chat_template": 7, "eos_token": [], "eos_token_id": "x", "temperature": true}',
        b'{"added_tokens": {"id": 1}, "added_tokens_decoder": [1], "model": []}',
        b'{"added_tokens": [{"id": -1}, {"id": 1e9}, 3], "model": {"vocab": {"a": "b"}}}',
        b'{"model": {"vocab": [], "merges": {}}, "chat_template": [{"name": 1}, 2]}',
        b'{"chat_template": "\\ud800", "top_p": 1e999}',
        b"[" * 100_000,
    ],
)
def test_what_cannot_be_read_counts_as_absent(
    folder: Path, base: BaseModel, content: bytes
) -> None:
    for name in NAMES[:-1]:
        if name != "chat_template.jinja":
            (folder / FOLDER / name).write_bytes(content)
    (folder / FOLDER / "chat_template.jinja").write_bytes(b"\xff")
    facts = read_training_facts(folder / FOLDER, 2**20)
    assert (facts.chat_template, facts.sampling, facts.eos_ids) == (None, {}, ())
    json.dumps(judged(folder, base).report).encode()
