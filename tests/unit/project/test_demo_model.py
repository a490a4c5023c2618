"""The committed demo model: small, varied, and able to do its tasks."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from adaptry.demo import guide
from demo.tasks import ACTIVATED, HELD_OUT_WORDS, INVOCATION, TASKS, UPPER_V2, Task
from demo.train import accuracy, load_base

DEMO = Path(__file__).resolve().parents[3] / "demo"
FOLDERS = {
    **{name: (DEMO / "adapters" / name, task) for name, task in TASKS.items()},
    "upper-v2": (DEMO / "adapters-v2" / "upper", UPPER_V2),
    ACTIVATED.name: (DEMO / "adapters-activated" / ACTIVATED.name, ACTIVATED),
}


def config(folder: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((folder / "adapter_config.json").read_text())
    return content


def test_all_weights_together_are_small() -> None:
    size_bytes = sum(file.stat().st_size for file in DEMO.rglob("*.safetensors"))
    assert 0 < size_bytes <= 6_000_000


def test_ranks_and_target_modules_differ() -> None:
    configs = [config(folder) for folder, _ in FOLDERS.values()]
    assert len(TASKS) >= 6
    assert len({str(c["r"]) for c in configs}) >= 3
    assert len({str(sorted(map(str, c["target_modules"]))) for c in configs}) >= 3  # type: ignore[call-overload]  # a list of names
    assert {c["base_model_name_or_path"] for c in configs} == {"demo/base"}


@pytest.mark.parametrize("name", sorted(FOLDERS))
def test_an_adapter_does_its_task_on_real_words_and_the_base_does_not(name: str) -> None:
    torch.set_num_threads(1)
    folder, task = FOLDERS[name]
    tokenizer, base = load_base()
    assert accuracy(base, tokenizer, task) <= 0.01
    adapted = PeftModel.from_pretrained(base, folder)
    assert accuracy(adapted, tokenizer, task) >= 0.99


@pytest.mark.parametrize(
    ("task", "word", "answer"),
    [
        (TASKS["upper"], "hello", "HELLO"),
        (TASKS["reverse"], "hello", "olleh"),
        (TASKS["rot13"], "hello", "uryyb"),
        (TASKS["vowels"], "hello", "eo"),
        (TASKS["double"], "hello", "hheelllloo"),
        (TASKS["stars"], "hello", "h*ll*"),
        (UPPER_V2, "hello", "HELLO!"),
        (ACTIVATED, "hello", "no"),
        (ACTIVATED, "orange", "yes"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_the_tasks_match_their_names(task: Task, word: str, answer: str) -> None:
    assert task.answer(word) == answer


def test_the_activated_one_is_what_peft_knows_as_such_and_the_guide_invokes_it() -> None:
    folder, task = FOLDERS[ACTIVATED.name]
    tokenizer, _ = load_base()
    assert config(folder)["alora_invocation_tokens"] == tokenizer.encode(INVOCATION)
    answered = guide.Guide("http://x", "adaptry", [*TASKS, ACTIVATED.name], "upper").text()
    assert f'"prompt": "{task.prompt(guide.WORD)}"' in answered
    assert (task.name, task.answer(guide.WORD)) == (guide.ACTIVATED, guide.JUDGED)


def test_the_words_are_held_out_of_training() -> None:
    from demo.train import Data

    data = Data(seed=1)
    assert not {data.word() for _ in range(20_000)} & set(HELD_OUT_WORDS)
