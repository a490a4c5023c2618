"""Every verdict of inspection, proven on the real engine against transformers with PEFT.

What is accepted loads, changes the base model's answer, and answers as PEFT does. What is refused
vLLM refuses too, or answers otherwise than PEFT, or (`STRICTER`) has a reason of its own.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AdaLoraConfig, IA3Config

from engine.errors import AdapterLoadFailed
from engine.policy.decisions import Activate, Commit, Evict, Move
from engine.ports import EngineState
from engine.types import AdapterVersion, EvictionReason, VersionId
from tests.support.adapters.peft_kinds import (
    ALONE,
    PROMPT,
    TOKENS,
    TOLERANCE,
    Answer,
    Edit,
    Kind,
    Peft,
    as_dtypes,
    as_pickle,
    configured,
    cut_off,
    each,
    lora,
    renamed,
    with_value,
    without,
)
from tests.support.adapters.unserved_kinds import UNSERVED
from tests.support.vllm.installed import KNOWS_PATTERNS

pytestmark = [pytest.mark.engine]

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "demo" / "base"
BASE_NAME = "tiny-text-tools"
MAX_RANK = 16
QUICK = [82, 86, 74, 68, 76]  # within PROMPT
LAST_TOKEN = 257  # of the tokenizer; the model has a few more


def narrower(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """As if made for a base model of half the width."""
    return tensor[:, :64] if "lora_A" in name else tensor[:64]


EVERY_MODULE = {  # as EVA writes it
    f"model.layers.{n}.self_attn.{part}": 2 + n for n in range(4) for part in ("q_proj", "v_proj")
}

ACCEPTED: dict[str, Callable[[], Kind]] = {
    "plain": lora,
    "rank 1": lambda: lora(r=1, lora_alpha=1),
    "the largest rank": lambda: lora(r=MAX_RANK),
    "rank-stabilised": lambda: lora(use_rslora=True),
    "a negative alpha": lambda: lora(configured(lora_alpha=-8)),
    "a fraction for alpha": lambda: lora(configured(lora_alpha=20.5)),
    "all linear layers": lambda: lora(target_modules="all-linear"),
    "modules by a regular expression": lambda: lora(target_modules=r".*\.[02]\.self_attn\.\w_proj"),
    "one module by its full name": lambda: lora(target_modules=["model.layers.1.mlp.up_proj"]),
    "a part of the fused ones": lambda: lora(target_modules=["k_proj", "gate_proj"]),
    "modules left out": lambda: lora(target_modules="all-linear", exclude_modules=["q_proj"]),
    "some layers": lambda: lora(layers_to_transform=[0, 3]),
    "a layer by its pattern": lambda: lora(layers_to_transform=2, layers_pattern="layers"),
    "parameters for targets": lambda: lora(
        target_modules=[], target_parameters=["self_attn.q_proj.weight"]
    ),
    "the embedding": lambda: lora(target_modules=["embed_tokens"], options=ALONE),
    "the head": lambda: lora(target_modules=["lm_head"], options=ALONE),
    "embedding, head and layers": lambda: lora(
        target_modules=["embed_tokens", "lm_head", "q_proj"], options=ALONE
    ),
    "embedding and head, saved along unchanged": lambda: lora(
        target_modules=["embed_tokens", "lm_head", "down_proj"]
    ),
    "tying where nothing is tied": lambda: lora(
        target_modules=["embed_tokens"], ensure_weight_tying=True
    ),
    "ranks by module": lambda: lora(rank_pattern={"v_proj": 8}),
    "alphas by module": lambda: lora(alpha_pattern={"v_proj": 32}),
    "ranks and alphas by regular expressions, rank-stabilised": lambda: lora(
        target_modules="all-linear",
        rank_pattern={r"layers\.0\..*q_proj": 2, "q_proj": 8},
        alpha_pattern={r"model\.layers\.1\.mlp.*": 3, ".*mlp.up_proj": 64},
        use_rslora=True,
    ),
    "overlapping alphas": lambda: lora(
        configured(alpha_pattern={"q_proj": 3, r"layers\.[01]\..*": 64}), lora_alpha=8
    ),
    "the same alphas in another order": lambda: lora(
        configured(alpha_pattern={r"layers\.[01]\..*": 64, "q_proj": 3}), lora_alpha=8
    ),
    "a rank for each module": lambda: lora(rank_pattern=EVERY_MODULE),
    "patterns that fit nothing": lambda: lora(
        rank_pattern={"nothing": 8}, alpha_pattern={"nothing": 3}
    ),
    "float16": lambda: lora(as_dtypes(torch.float16, torch.float16)),
    "bfloat16": lambda: lora(as_dtypes(torch.bfloat16, torch.bfloat16)),
    "double precision": lambda: lora(as_dtypes(torch.float64, torch.float64)),
    "float8": lambda: lora(as_dtypes(torch.float8_e4m3fn, torch.float8_e5m2)),
    "A and B of different dtypes": lambda: lora(as_dtypes(torch.float16, torch.bfloat16)),
    "dropout": lambda: lora(lora_dropout=0.5),
    "random initial weights": lambda: lora(init_lora_weights=False),
    "gaussian initial weights": lambda: lora(init_lora_weights="gaussian"),
    "orthogonal initial weights": lambda: lora(init_lora_weights="orthogonal"),
    "activated within the prompt": lambda: lora(alora_invocation_tokens=QUICK, r=8),
    "transposing what is not transposed": lambda: lora(configured(fan_in_fan_out=True)),
}

NORMALISED: dict[str, tuple[Edit, ...]] = {
    "no prefix": (renamed("base_model.model.", ""),),
    "the default adapter's name inside": (renamed(".weight", ".default.weight"),),
    "both": (renamed("base_model.model.", ""), renamed(".weight", ".default.weight")),
}

REFUSED: dict[str, dict[str, Callable[[], Kind]]] = {
    "modules_to_save_unsupported": {"the head": lambda: lora(modules_to_save=["lm_head"])},
    "invocation_invalid": {
        "beyond the tokenizer": lambda: lora(alora_invocation_tokens=[LAST_TOKEN + 1]),
    },
    "alora_unsupported": {
        "the head": lambda: lora(
            alora_invocation_tokens=QUICK, target_modules=["lm_head", "q_proj"], options=ALONE
        )
    },
    "not_lora": {
        "IA3": lambda: Kind(
            IA3Config(target_modules=["k_proj"], feedforward_modules=[], task_type="CAUSAL_LM")
        ),
        "AdaLoRA": lambda: Kind(
            AdaLoraConfig(target_modules=["q_proj"], total_step=10, task_type="CAUSAL_LM")
        ),
    },
    "rank_too_large": {
        "everywhere": lambda: lora(r=MAX_RANK + 1),
        "in a pattern": lambda: lora(rank_pattern={"v_proj": MAX_RANK + 1}),
        "in a pattern that fits nothing": lambda: lora(rank_pattern={"nothing": 99}),
        "by default, though no module has it": lambda: lora(r=32, rank_pattern={".*": 4}),
    },
    "rank_mismatch": {"": lambda: lora(configured(r=8))},
    "config_invalid": {"no target_modules": lambda: lora(configured(target_modules=None))},
    "pattern_invalid": {"": lambda: lora(configured(alpha_pattern={"(": 8}))},
    "embedding_saved": {
        "on request": lambda: lora(options={"save_embedding_layers": True}),
        "for a larger vocabulary": lambda: lora(resize_to=300),
    },
    "base_weights_changed": {
        "embedding and head": lambda: lora(
            each(lambda name, tensor: tensor * 1.5 if "base_layer" in name else tensor),
            target_modules=["embed_tokens", "lm_head", "q_proj"],
        )
    },
    "embedding_unsupported": {
        "a linear pair for the embedding": lambda: lora(
            renamed("layers.1.self_attn.q_proj", "embed_tokens")
        )
    },
    "shape_mismatch": {
        "of a smaller base model": lambda: lora(each(narrower)),
        "of a larger vocabulary": lambda: lora(
            resize_to=300, target_modules=["embed_tokens"], options=ALONE
        ),
    },
    "unknown_module": {
        "a layer too deep": lambda: lora(renamed("layers.1.", "layers.9.")),
        "no such module": lambda: lora(renamed("layers.1.self_attn", "layers.1.other_attn")),
    },
    "unknown_tensor": {
        "another adapter's name inside": lambda: lora(renamed(".weight", ".other.weight")),
        "a half that no pair has": lambda: lora(
            renamed("layers.1.self_attn.q_proj.lora_A", "layers.1.self_attn.q_proj.lora_C")
        ),
    },
    "unpaired_tensor": {"": lambda: lora(without("layers.1.self_attn.q_proj.lora_B"))},
    "no_modules": {"": lambda: lora(without("lora_"))},
    "pickle_weights": {"": lambda: lora(as_pickle)},
    "tensor_out_of_bounds": {"": lambda: lora(cut_off)},
    "not_finite": {
        "NaN": lambda: lora(with_value(math.nan), target_modules=["down_proj"]),
        "infinity": lambda: lora(with_value(math.inf), target_modules=["down_proj"]),
    },
    "no_effect": {
        "not trained": lambda: lora(each(lambda n, t: t * 0 if "lora_B" in n else t)),
        "alpha is zero": lambda: lora(configured(lora_alpha=0)),
    },
}

for _what, (_code, _make) in UNSERVED.items():
    REFUSED.setdefault(_code, {})[_what] = _make

WITH_PATTERNS = {
    "ranks by module": "rank_pattern_unsupported",
    "alphas by module": "alpha_pattern_unsupported",
    "ranks and alphas by regular expressions, rank-stabilised": "rank_pattern_unsupported",
    "overlapping alphas": "alpha_pattern_unsupported",
    "the same alphas in another order": "alpha_pattern_unsupported",
    "a rank for each module": "rank_pattern_unsupported",
}
if not KNOWS_PATTERNS:
    for _what, _code in WITH_PATTERNS.items():
        REFUSED.setdefault(_code, {})[_what] = ACCEPTED.pop(_what)

STRICTER: dict[str, tuple[str, Callable[[], Kind]]] = {
    # An invocation that is named and empty says nothing of where the adapter begins.
    "an empty invocation": (
        "invocation_invalid",
        lambda: lora(configured(alora_invocation_tokens=[])),
    ),
    # PEFT writes no integers: they are quantized weights, and no code would apply their scales.
    "integers": ("dtype_unsupported", lambda: lora(each(lambda _, tensor: (tensor * 9).int()))),
}

# 0.26 does not look at these fields, nor does PEFT in such an adapter.
_IGNORED = {"rank_too_large": "in a pattern that fits nothing", "qalora_unsupported": "QALoRA"}
if not KNOWS_PATTERNS:
    for _code, _what in _IGNORED.items():
        STRICTER[_what] = _code, REFUSED[_code].pop(_what)

LEFT_OUT = ("layers.9.", "other_attn")

CASES = [(code, what) for code, kinds in REFUSED.items() for what in kinds]


@pytest.fixture(scope="module")
def peft() -> Peft:
    return Peft(BASE)


@pytest.fixture
def sources(live_server: Any, tmp_path: Path) -> Path:
    """A folder that the server may read, for this test alone."""
    folder: Path = live_server.state / "verdicts" / tmp_path.name
    folder.mkdir(parents=True)
    return folder


def served(server: Any, model: str) -> Answer:
    """Over HTTP."""
    options = {"max_tokens": TOKENS, "logprobs": 1, "return_token_ids": True, "ignore_eos": True}
    response = server.complete(model, PROMPT, **options)
    assert response.status_code == 200, response.text
    choice = response.json()["choices"][0]
    return Answer(choice["token_ids"], choice["logprobs"]["token_logprobs"])


def verdict(server: Any, folder: Path) -> dict[str, Any]:
    response = server.client.post("/api/v1/inspect", json={"source": str(folder)})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


_engine_ids = itertools.count(5_000_000)


@contextmanager
def uncompared(server: Any) -> Iterator[None]:
    """Pauses reconciliation: the controller would evict adapters that it does not know."""
    controller, state = server.server.controller, EngineState(gpu=(), host=())
    under_way = controller.reconcile

    async def paused() -> EngineState:
        return state

    controller.reconcile = paused
    try:
        state = server.run(under_way())  # answered after whichever was asked before
        yield
    finally:
        del controller.reconcile


def forced(server: Any, folder: Path) -> Answer | str:
    """What vLLM does with it, past the registry and the cache: its answer, or its refusal."""
    with uncompared(server):
        return _forced(server, folder)


def _forced(server: Any, folder: Path) -> Answer | str:
    version = AdapterVersion(
        VersionId(next(_engine_ids)), "forced", 1, folder.name, str(folder), MAX_RANK, 0
    )
    backend = server.server.supervisor
    try:
        server.run(backend.load(version))
    except AdapterLoadFailed as error:
        return str(error)
    moves: list[Move] = [Commit(version.id), Activate(version.id)]
    try:
        for result in server.run(backend.apply(moves)):
            if result.error:
                return str(result.error)
        answer: Answer = server.run(_generate(server.server.engine, version))
        return answer
    finally:
        out = Evict(version.id, EvictionReason.CAPACITY, left_slot=False)
        server.run(backend.apply([out]))


async def _generate(engine: Any, version: AdapterVersion) -> Answer:
    from vllm import SamplingParams

    from engine.vllm.admission.held_leases import use_held_lease
    from engine.vllm.backend import lora_request

    sampling = SamplingParams(max_tokens=TOKENS, temperature=0, logprobs=1, ignore_eos=True)
    stream = engine.generate(
        PROMPT, sampling, f"forced-{version.id}", lora_request=lora_request(version)
    )
    async with use_held_lease():  # no lease, but none can be had for what is refused
        async for output in stream:
            done = output.outputs[0]
    logprobs = zip(done.token_ids, done.logprobs, strict=True)
    return Answer(list(done.token_ids), [found[token].logprob for token, found in logprobs])


def test_the_base_model_generates_the_same_in_both(server: Any, peft: Peft) -> None:
    assert served(server, BASE_NAME).equals(peft.base)


@pytest.mark.parametrize("what", ACCEPTED)
def test_what_is_accepted_answers_as_peft_does(
    server: Any, peft: Peft, sources: Path, what: str
) -> None:
    folder = ACCEPTED[what]().save(BASE, sources)
    found = verdict(server, folder)
    assert found["accepted"] is True, found
    assert found["adapter"]["inspection"]["shapes_checked"] is True
    name = f"verdict-{list(ACCEPTED).index(what)}"
    version = server.register(name, folder)
    assert version["inspection"] == found["adapter"]["inspection"]
    answer, expected = served(server, name), peft.answer(folder)
    assert expected is not None
    assert answer.equals(expected)
    assert not answer.equals(peft.base)


@pytest.mark.parametrize("what", NORMALISED)
def test_what_is_stored_under_other_names_answers_as_peft_does(
    server: Any, peft: Peft, sources: Path, what: str
) -> None:
    """Both what PEFT saved before the names were changed, and what is stored."""
    saved = peft.answer(lora().save(BASE, sources / "saved"))
    folder = lora(*NORMALISED[what]).save(BASE, sources / "renamed")
    found = verdict(server, folder)
    assert found["accepted"] is True, found
    name = f"normalised-{list(NORMALISED).index(what)}"
    version = server.register(name, folder)
    remarks = [remark["code"] for remark in version["inspection"]["remarks"]]
    assert "names_normalised" in remarks
    answer = served(server, name)
    digest = version["digest"]
    stored = peft.answer(server.state / "store" / "adapters" / digest[:2] / digest)
    assert saved is not None
    assert stored is not None
    assert answer.equals(saved)
    assert answer.equals(stored)
    assert not answer.equals(peft.base)


def test_an_embedding_changes_no_other_response(server: Any, peft: Peft, sources: Path) -> None:
    """Base-model rows and those of two adapters in one batch, with and without embeddings."""
    expected = {BASE_NAME: peft.base}
    for name, kind in {
        "with-embedding": lora(target_modules=["embed_tokens", "lm_head", "q_proj"], options=ALONE),
        "without-embedding": lora(target_modules=["v_proj"]),
    }.items():
        folder = kind.save(BASE, sources / name)
        server.register(name, folder)
        answer = peft.answer(folder)
        assert answer is not None
        expected[name] = answer
    asked = list(expected) * 12
    with ThreadPoolExecutor(9) as pool:
        answers = list(pool.map(lambda model: served(server, model), asked))
    for model, found in zip(asked, answers, strict=True):
        assert found.equals(expected[model]), model


def test_log_probabilities_of_prompts_are_each_ones_own(
    server: Any, peft: Peft, sources: Path
) -> None:
    """Several prompts in one batch, with and without an adapter for the head."""
    folder = lora(target_modules=["lm_head", "v_proj"], options=ALONE).save(BASE, sources)
    server.register("with-head", folder)
    prompts = [PROMPT, "hello=", "a", "the last one is a little longer"]

    def found(model: str) -> list[list[float]]:
        body = {"model": model, "prompt": prompts, "max_tokens": 1, "prompt_logprobs": 0}
        response = server.client.post("/v1/completions", json=body)
        assert response.status_code == 200, response.text
        tokens = [choice["prompt_logprobs"][1:] for choice in response.json()["choices"]]
        return [[next(iter(t.values()))["logprob"] for t in prompt] for prompt in tokens]

    models = {BASE_NAME: None, "with-head": folder}
    with ThreadPoolExecutor(len(models) * 3) as pool:
        answers = list(pool.map(found, [*models] * 3))
    for model, answer in zip([*models] * 3, answers, strict=True):
        for prompt, values in zip(prompts, answer, strict=True):
            right = peft.prompt_logprobs(models[model], prompt)
            assert values == pytest.approx(right, abs=TOLERANCE), (model, prompt)


@pytest.mark.parametrize(("code", "what"), CASES, ids=[" ".join(case).strip() for case in CASES])
def test_what_is_refused_vllm_refuses_or_serves_wrongly(
    server: Any, peft: Peft, sources: Path, code: str, what: str
) -> None:
    folder = REFUSED[code][what]().save(BASE, sources)
    assert_refused(server, folder, code)
    answer, expected = forced(server, folder), peft.answer(folder)
    if not isinstance(answer, Answer) or expected is None or answer.equals(peft.base):
        return
    if answer.equals(expected):  # then both leave something out without a word
        each(lambda name, t: t * -7 if any(part in name for part in LEFT_OUT) else t)(folder)
        again = forced(server, folder)
        assert isinstance(again, Answer)
        assert again.equals(answer)
        assert code == "unknown_module"


@pytest.mark.parametrize("what", STRICTER)
def test_what_is_refused_for_a_reason_of_ours(
    server: Any, peft: Peft, sources: Path, what: str
) -> None:
    code, make = STRICTER[what]
    folder = make().save(BASE, sources)
    assert_refused(server, folder, code)
    answer, expected = forced(server, folder), peft.answer(folder)
    assert isinstance(answer, Answer)
    assert expected is not None
    assert answer.equals(expected), "vLLM would serve it right: if not, it belongs into REFUSED"


def assert_refused(server: Any, folder: Path, code: str) -> None:
    found = verdict(server, folder)
    assert found["accepted"] is False
    assert code in [problem["code"] for problem in found["problems"]], found
    response = server.client.post("/api/v1/adapters/refused/versions", json={"source": str(folder)})
    assert response.status_code == 422, response.text
    assert response.json()["code"] == found["problems"][0]["code"]
