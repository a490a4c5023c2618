"""Training of the demo's base model and its LoRA adapters from scratch: `make demo-model`.

A byte-level Llama of 0.8 million parameters learns to echo a word (`hello=` → `hello`) and, asked
with other marks, a few other letter games. Each adapter then teaches it one text tool of `tasks.py`
at the mark `=`. Both train on random letters; the real words of `tasks.py` are held out.
"""

import argparse
import itertools
import random
import shutil
import string
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from demo.tasks import ACTIVATED, HELD_OUT_WORDS, INVOCATION, TASKS, UPPER_V2, Task

HERE = Path(__file__).resolve().parent
BASE = HERE / "base"
ADAPTERS = HERE / "adapters"
SECOND_VERSIONS = HERE / "adapters-v2"
ACTIVATED_ADAPTERS = HERE / "adapters-activated"

LETTERS = string.ascii_lowercase
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]
PAD, END = "<pad>", "<end>"
IGNORED = -100
ROWS = 64

# rank, target modules, steps: different on purpose, as adapters in the wild are
RECIPES: dict[str, tuple[int, list[str], int]] = {
    "upper": (4, [*ATTENTION, *MLP], 400),
    "reverse": (16, [*ATTENTION, *MLP], 1200),
    "rot13": (16, ["o_proj", *MLP], 900),
    "vowels": (8, ATTENTION, 700),
    "double": (16, ATTENTION, 900),
    "stars": (8, ["q_proj", "v_proj", "up_proj", "down_proj"], 600),
}

Example = tuple[str, str]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", nargs="+", choices=["base", *RECIPES, "upper-v2", ACTIVATED.name], default=[]
    )
    wanted = parser.parse_args().only
    torch.set_num_threads(2)
    if not wanted or "base" in wanted:
        make_base(steps=4000)
    for name, (rank, targets, steps) in RECIPES.items():
        if not wanted or name in wanted:
            make_adapter(TASKS[name], ADAPTERS / name, rank, targets, steps)
    if not wanted or "upper-v2" in wanted:
        make_adapter(UPPER_V2, SECOND_VERSIONS / "upper", 8, [*ATTENTION, *MLP], 600)
    if not wanted or ACTIVATED.name in wanted:
        folder = ACTIVATED_ADAPTERS / ACTIVATED.name
        make_activated(ACTIVATED, folder, 8, [*ATTENTION, *MLP], 400)
    return report()


# ---- data --------------------------------------------------------------------------------


class Data:
    """Random examples that never contain a held-out word."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def word(self, letters: int | None = None) -> str:
        while True:
            length = letters or self._random.randint(1, 10)
            word = "".join(self._random.choice(LETTERS + "aeiou" * 2) for _ in range(length))
            if word not in HELD_OUT_WORDS:
                return word

    def words_of_one_length(self, count: int) -> list[str]:
        length = self._random.randint(1, 10)
        return [self.word(length) for _ in range(count)]

    def is_heads(self) -> bool:
        return self._random.random() < 0.5

    def base_example(self) -> Example:
        mark = self._random.choice("==<^>%+")
        word = self.word()
        if mark == "=" and self._random.random() < 0.5:
            signs = string.ascii_letters + string.digits + "!*.-"
            word = "".join(self._random.choice(signs) for _ in range(self._random.randint(1, 12)))
        return word + mark, _GAMES[mark](word)

    def task_example(self, task: Task) -> Example:
        word = self.word()
        return task.prompt(word), task.answer(word)


def _alternate(word: str) -> str:
    return "".join(c.upper() if i % 2 else c for i, c in enumerate(word))


_NEXT_LETTER = str.maketrans(LETTERS, LETTERS[1:] + "a")
_GAMES: dict[str, Callable[[str], str]] = {
    "=": lambda word: word,
    "<": lambda word: "-".join(word[::-1]),
    "^": _alternate,
    ">": lambda word: word.translate(_NEXT_LETTER),
    "%": lambda word: "".join(c for c in word if c not in "aeiou"),
    "+": lambda word: "".join(c + "." for c in word),
}


# ---- model -------------------------------------------------------------------------------


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, nothing added before or after. Chat means: the last message and `=`."""
    vocabulary = {PAD: 0, END: 1}
    for sign in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary[sign] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        chat_template="{{ messages[-1]['content'] }}=",
    )


def make_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=264,  # 258, rounded up to a multiple of 8
            hidden_size=128,
            intermediate_size=320,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=512,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def make_base(steps: int) -> None:
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    data = Data(seed=0)

    def loss() -> torch.Tensor:
        return loss_of(model, tokenizer, [data.base_example() for _ in range(ROWS)])

    train("base", model, loss, steps, peak_rate=2e-3)
    _start_afresh(BASE)
    model.to(torch.bfloat16).save_pretrained(BASE)
    tokenizer.save_pretrained(BASE)


def make_adapter(task: Task, folder: Path, rank: int, targets: list[str], steps: int) -> None:
    torch.manual_seed(1)
    tokenizer, model = adapted_base(rank, targets)
    data = Data(seed=1)

    def loss() -> torch.Tensor:
        return loss_of(model, tokenizer, [data.task_example(task) for _ in range(ROWS)])

    train(folder.name, model, loss, steps, peak_rate=4e-3)
    save_adapter(model, folder)


def make_activated(task: Task, folder: Path, rank: int, targets: list[str], steps: int) -> None:
    """What comes before the invocation is the base model's: its keys and values, without an effect
    of the adapter. PEFT's own forward gives the same, and takes ten times as long.
    """
    torch.manual_seed(1)
    tokenizer, model = adapted_base(rank, targets)
    data = Data(seed=1)

    def loss() -> torch.Tensor:
        words = data.words_of_one_length(ROWS)
        begun = [task.prompt(word).removesuffix(INVOCATION) for word in words]
        if data.is_heads():  # a word alone, as in a chat
            begun = words
        before = torch.tensor([tokenizer.encode(text) for text in begun])
        with torch.no_grad(), model.disable_adapter():
            known = model(input_ids=before, use_cache=True).past_key_values
        tokens, labels = batch(tokenizer, [(INVOCATION, task.answer(word)) for word in words])
        found: torch.Tensor = model(input_ids=tokens, labels=labels, past_key_values=known).loss
        return found

    train(folder.name, model, loss, steps, peak_rate=4e-3)
    model.peft_config["default"].alora_invocation_tokens = tokenizer.encode(INVOCATION)
    save_adapter(model, folder)


def adapted_base(rank: int, targets: list[str]) -> tuple[PreTrainedTokenizerFast, Any]:
    tokenizer, base = load_base()
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets, task_type="CAUSAL_LM")
    return tokenizer, get_peft_model(base, config)


def save_adapter(model: Any, folder: Path) -> None:
    _start_afresh(folder)
    model.peft_config["default"].base_model_name_or_path = "demo/base"
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)


def load_base() -> tuple[PreTrainedTokenizerFast, LlamaForCausalLM]:
    """The base as it is served: saved in bfloat16, computed in float32."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(BASE)
    return tokenizer, LlamaForCausalLM.from_pretrained(BASE, dtype=torch.float32)


def _start_afresh(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


# ---- training ----------------------------------------------------------------------------


def train(
    what: str, model: Any, loss_now: Callable[[], torch.Tensor], steps: int, peak_rate: float
) -> None:
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=peak_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, peak_rate, total_steps=steps, pct_start=0.1
    )
    started = time.monotonic()
    model.train()
    for step in range(1, steps + 1):
        loss = loss_now()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 100 == 0 or step == steps:
            seconds = time.monotonic() - started
            print(
                f"{what}: step {step}/{steps}, loss {loss.item():.4f}, {seconds:.0f} s", flush=True
            )
    model.eval()


def loss_of(
    model: Any, tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example]
) -> torch.Tensor:
    tokens, labels = batch(tokenizer, examples)
    attended = (tokens != tokenizer.pad_token_id).long()
    loss: torch.Tensor = model(input_ids=tokens, attention_mask=attended, labels=labels).loss
    return loss


def batch(
    tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and labels, both (examples, longest); only the answers are learned."""
    rows = []
    for prompt, answer in examples:
        asked = tokenizer.encode(prompt)
        told = (
            [*tokenizer.encode(answer), tokenizer.eos_token_id]
            if answer
            else [tokenizer.eos_token_id]
        )
        rows.append((asked + told, [IGNORED] * len(asked) + told))
    longest = max(len(tokens) for tokens, _ in rows)
    pad = tokenizer.pad_token_id
    tokens = [row + [pad] * (longest - len(row)) for row, _ in rows]
    labels = [row + [IGNORED] * (longest - len(row)) for _, row in rows]
    return torch.tensor(tokens), torch.tensor(labels)


# ---- checking ----------------------------------------------------------------------------


def report() -> int:
    """Exact matches on the held-out words; an exit code."""
    tokenizer, base = load_base()
    failed = False
    print(f"{'adapter':12}{'rank':>5}{'right':>8}{'base alone':>12}")
    tasks = {ADAPTERS / name: task for name, task in TASKS.items()}
    tasks[SECOND_VERSIONS / UPPER_V2.name] = UPPER_V2
    tasks[ACTIVATED_ADAPTERS / ACTIVATED.name] = ACTIVATED
    for folder, task in tasks.items():
        alone = accuracy(base, tokenizer, task)
        adapted = PeftModel.from_pretrained(load_base()[1], folder)
        right = accuracy(adapted, tokenizer, task)
        rank = adapted.peft_config["default"].r
        print(f"{folder.name:12}{rank:>5}{right:>8.1%}{alone:>12.1%}")
        failed = failed or right < 0.99 or alone > 0.01
    return int(failed)


def accuracy(model: Any, tokenizer: PreTrainedTokenizerFast, task: Task) -> float:
    """Words of one length make one batch, which needs no padding: a token is a character."""
    right = 0
    for _, group in itertools.groupby(sorted(HELD_OUT_WORDS, key=len), key=len):
        words = list(group)
        answers = generate(model, tokenizer, [task.prompt(word) for word in words])
        right += sum(a == task.answer(word) for a, word in zip(answers, words, strict=True))
    return right / len(HELD_OUT_WORDS)


def generate(model: Any, tokenizer: PreTrainedTokenizerFast, prompts: list[str]) -> list[str]:
    """Greedy answers up to the end token, of prompts of one length."""
    tokens = tokenizer(prompts, return_tensors="pt", return_token_type_ids=False)
    with torch.inference_mode():
        output = model.generate(**tokens, max_new_tokens=32, do_sample=False)
    answers = output[:, tokens["input_ids"].shape[1] :]
    return [str(text) for text in tokenizer.batch_decode(answers, skip_special_tokens=True)]


if __name__ == "__main__":
    sys.exit(main())
