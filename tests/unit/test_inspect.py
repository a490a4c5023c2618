"""Inspection: every refusal by its code, each from a good adapter with one thing broken."""

import json
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from registry.base_model import BaseModel, read_base_model
from registry.errors import InvalidAdapter
from registry.inspect import Inspection, inspect_adapter

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "demo"
OUT, IN, RANK, MAX_RANK = 6, 10, 4, 16
MODULE = "model.layers.0.self_attn.q_proj"
OTHER = "model.layers.1.self_attn.q_proj"
BASE = BaseModel("tiny", {MODULE: (OUT, IN), OTHER: (OUT, IN), "model.embed_tokens": (32, IN)})
UNKNOWN_BASE = BaseModel("tiny", None)

Array = np.ndarray[Any, Any]


def key(module: str, which: str) -> str:
    return f"base_model.model.{module}.lora_{which}.weight"


def matrix(*shape: int) -> Array:
    return np.full(shape, 0.5, dtype=np.float32)


def pair(module: str = MODULE, rank: int = RANK) -> dict[str, Array]:
    return {key(module, "A"): matrix(rank, IN), key(module, "B"): matrix(OUT, rank)}


@dataclass
class Draft:
    """A good adapter, until somebody breaks it. `files` replace what would be written."""

    config: dict[str, Any] = field(
        default_factory=lambda: {
            "peft_type": "LORA",
            "r": RANK,
            "lora_alpha": 8,
            "target_modules": ["q_proj"],
            "bias": "none",
            "base_model_name_or_path": "tiny",
        }
    )
    tensors: dict[str, Array] = field(default_factory=pair)
    files: dict[str, bytes | None] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        (folder / "adapter_config.json").write_text(json.dumps(self.config))
        save_file(self.tensors, folder / "adapter_model.safetensors")
        for name, content in self.files.items():
            if content is None:
                (folder / name).unlink()
            else:
                (folder / name).write_bytes(content)
        return folder


def raw_weights(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def configured(**fields: Any) -> Draft:
    draft = Draft()
    draft.config.update(fields)
    return draft


def without(name: str) -> Draft:
    draft = Draft()
    del draft.config[name]
    return draft


def weighing(tensors: dict[str, Array]) -> Draft:
    return Draft(tensors=tensors)


def config_text(content: str | bytes) -> Draft:
    raw = content if isinstance(content, bytes) else content.encode()
    return Draft(files={"adapter_config.json": raw})


def config_with(json_text: str) -> Draft:
    """A good configuration and one more field, written as it stands here."""
    return config_text(json.dumps(Draft().config)[:-1] + f', "more": {json_text}}}')


def weights_file(content: bytes | None) -> Draft:
    return Draft(files={"adapter_model.safetensors": content})


def holding(value: float, dtype: type = np.float32) -> Draft:
    tensors: dict[str, Array] = {name: tensor.astype(dtype) for name, tensor in pair().items()}
    tensors[key(MODULE, "B")][-1, -1] = value
    return weighing(tensors)


def bfloat16(bits: int = 0x3F80) -> Draft:
    """numpy has no bfloat16, so the file is made by hand. The last number has these bits."""
    header: dict[str, Any] = {}
    data = b""
    for name, tensor in pair().items():
        numbers = np.full(tensor.shape, 0x3F80, dtype="<u2")
        numbers[-1, -1] = bits
        offsets = [len(data), len(data) + numbers.nbytes]
        header[name] = {"dtype": "BF16", "shape": tensor.shape, "data_offsets": offsets}
        data += numbers.tobytes()
    return weights_file(raw_weights(json.dumps(header).encode(), data))


REFUSED: dict[str, dict[str, Callable[[], Draft]]] = {
    "config_missing": {
        "no file": lambda: Draft(files={"adapter_config.json": None}),
    },
    "config_invalid": {
        "no JSON": lambda: config_text("{"),
        "empty": lambda: config_text(""),
        "a list": lambda: config_text("[]"),
        "UTF-16, which vLLM can't read": lambda: config_text(
            json.dumps(Draft().config).encode("utf-16")
        ),
        "a byte order mark": lambda: config_text(b"\xef\xbb\xbf" + b"{}"),
        "NaN": lambda: config_with("NaN"),
        "a number beyond any": lambda: config_with("1e999"),
        "half a character": lambda: config_with('"\\ud800"'),
        "deeper than a table can keep": lambda: config_with("[" * 500 + "]" * 500),
        "deeper than can be read": lambda: config_text("[" * 100_000),
        "huge": lambda: config_text(" " * (2**20 + 1)),
        "no target_modules": lambda: without("target_modules"),
        "no alpha": lambda: without("lora_alpha"),
        "alpha is text": lambda: configured(lora_alpha="8"),
        "alpha is a truth": lambda: configured(lora_alpha=True),
        "alpha is zero": lambda: configured(lora_alpha=0),
        "alpha is negative": lambda: configured(lora_alpha=-8),
        "alpha is beyond any float": lambda: configured(lora_alpha=10**400),
    },
    "not_lora": {
        "another kind": lambda: configured(peft_type="IA3"),
        "none": lambda: without("peft_type"),
        "no text": lambda: configured(peft_type=["LORA"]),
    },
    "rank_invalid": {
        "none": lambda: without("r"),
        "zero": lambda: configured(r=0),
        "negative": lambda: configured(r=-1),
        "text": lambda: configured(r="4"),
        "a truth": lambda: configured(r=True),
        "a fraction": lambda: configured(r=4.0),
        "null": lambda: configured(r=None),
    },
    "rank_too_large": {
        "one too many": lambda: configured(r=MAX_RANK + 1),
        "absurd": lambda: configured(r=10**4000),
    },
    "dora_unsupported": {"": lambda: configured(use_dora=True)},
    "modules_to_save_unsupported": {"": lambda: configured(modules_to_save=["score"])},
    "rank_pattern_unsupported": {"": lambda: configured(rank_pattern={"q_proj": 8})},
    "alpha_pattern_unsupported": {"": lambda: configured(alpha_pattern={"q_proj": 8})},
    "bias_unsupported": {
        "all": lambda: configured(bias="all"),
        "lora_only": lambda: configured(bias="lora_only"),
        "null": lambda: configured(bias=None),
        "in the pair": lambda: configured(lora_bias=True),
    },
    "layer_replication_unsupported": {"": lambda: configured(layer_replication=[[0, 2], [1, 3]])},
    "fan_in_fan_out_unsupported": {"": lambda: configured(fan_in_fan_out=True)},
    "alora_unsupported": {"": lambda: configured(alora_invocation_tokens=[1, 2])},
    "bdlora_unsupported": {"": lambda: configured(use_bdlora={"nblocks": 2})},
    "qalora_unsupported": {"": lambda: configured(use_qalora=True)},
    "arrow_unsupported": {"": lambda: configured(arrow_config={"top_k": 3})},
    "kasa_unsupported": {"": lambda: configured(kasa_config={"beta": 1})},
    "monteclora_unsupported": {"": lambda: configured(monteclora_config={"num_samples": 8})},
    "init_lora_weights_unsupported": {
        "PiSSA": lambda: configured(init_lora_weights="pissa_niter_4"),
        "OLoRA": lambda: configured(init_lora_weights="olora"),
        "LoftQ": lambda: configured(init_lora_weights="LoftQ"),
    },
    "embedding_unsupported": {
        "trained tokens": lambda: configured(trainable_token_indices=[1, 2]),
        "embedding tensors": lambda: weighing(
            {
                "base_model.model.model.embed_tokens.lora_embedding_A": matrix(RANK, 32),
                "base_model.model.model.embed_tokens.lora_embedding_B": matrix(IN, RANK),
            }
        ),
        "a pair for the embedding": lambda: weighing(pair("model.embed_tokens")),
        "a pair for the head": lambda: weighing(pair("lm_head")),
        "the head itself, saved along": lambda: weighing(
            {**pair("lm_head"), "base_model.model.lm_head.base_layer.weight": matrix(32, IN)}
        ),
        "the embedding itself": lambda: weighing(
            {**pair(), "base_model.model.model.embed_tokens.weight": matrix(32, IN)}
        ),
    },
    "weights_missing": {
        "none": lambda: weights_file(None),
        "under another name": lambda: Draft(
            files={"adapter_model.safetensors": None, "model.safetensors": b""}
        ),
    },
    "pickle_weights": {
        "": lambda: Draft(files={"adapter_model.safetensors": None, "adapter_model.bin": b"x"}),
    },
    "header_invalid": {
        "an empty file": lambda: weights_file(b""),
        "longer than the file": lambda: weights_file(struct.pack("<Q", 2**40) + b"{}"),
        "no JSON": lambda: weights_file(raw_weights(b"{]")),
        "a pointer of Git LFS": lambda: weights_file(b"version https://git-lfs.github.com/spec/v1"),
        "a name that is no text": lambda: weights_file(
            raw_weights(b'{"\\ud800":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}')
        ),
    },
    "tensor_out_of_bounds": {
        "cut off": lambda: weights_file(
            raw_weights(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(7))
        ),
    },
    "dtype_unsupported": {
        "double precision": lambda: weighing({k: v.astype("f8") for k, v in pair().items()}),
        "integers": lambda: weighing({k: v.astype("i4") for k, v in pair().items()}),
        "unknown": lambda: weights_file(
            raw_weights(b'{"a":{"dtype":"F3","shape":[0],"data_offsets":[0,0]}}')
        ),
    },
    "no_modules": {"": lambda: weighing({})},
    "unpaired_tensor": {
        "A without B": lambda: weighing({key(MODULE, "A"): matrix(RANK, IN)}),
        "B without A": lambda: weighing({**pair(), key(OTHER, "B"): matrix(OUT, RANK)}),
    },
    "unknown_tensor": {
        "DoRA's magnitude": lambda: weighing(
            {**pair(), f"base_model.model.{MODULE}.lora_magnitude_vector": matrix(OUT)}
        ),
        "a bias": lambda: weighing({**pair(), f"base_model.model.{MODULE}.bias": matrix(OUT)}),
        "without PEFT's prefix": lambda: weighing({f"{MODULE}.lora_A.weight": matrix(RANK, IN)}),
        "a nameless one": lambda: weighing({"": matrix(1)}),
        "an adapter's name inside": lambda: weighing(
            {f"base_model.model.{MODULE}.lora_A.default.weight": matrix(RANK, IN)}
        ),
    },
    "unknown_module": {
        "a layer too deep": lambda: weighing({**pair(), **pair("model.layers.99.q_proj")}),
        "of another family": lambda: weighing(pair("transformer.h.0.attn.c_attn")),
    },
    "rank_mismatch": {
        "smaller than r": lambda: weighing(pair(rank=2)),
        "larger than r": lambda: weighing(pair(rank=8)),
        "in one module only": lambda: weighing({**pair(), **pair(OTHER, rank=8)}),
        "in one half only": lambda: weighing({**pair(), key(MODULE, "B"): matrix(OUT, 8)}),
        "in the configuration": lambda: configured(r=8),
    },
    "shape_mismatch": {
        "too few inputs": lambda: weighing({**pair(), key(MODULE, "A"): matrix(RANK, IN - 1)}),
        "too many inputs": lambda: weighing({**pair(), key(MODULE, "A"): matrix(RANK, IN + 1)}),
        "too few outputs": lambda: weighing({**pair(), key(MODULE, "B"): matrix(OUT - 1, RANK)}),
        "too many outputs": lambda: weighing({**pair(), key(MODULE, "B"): matrix(OUT + 1, RANK)}),
        "transposed": lambda: weighing(
            {key(MODULE, "A"): matrix(RANK, OUT), key(MODULE, "B"): matrix(IN, RANK)}
        ),
        "no matrix": lambda: weighing({**pair(), key(MODULE, "A"): matrix(RANK, IN, 1)}),
        "no inputs": lambda: weighing({**pair(), key(MODULE, "A"): matrix(RANK, 0)}),
    },
    "not_finite": {
        "NaN": lambda: holding(np.nan),
        "infinity": lambda: holding(np.inf),
        "minus infinity": lambda: holding(-np.inf),
        "NaN in float16": lambda: holding(np.nan, np.float16),
        "infinity in float16": lambda: holding(np.inf, np.float16),
        "NaN in bfloat16": lambda: bfloat16(0x7FC0),
        "infinity in bfloat16": lambda: bfloat16(0x7F80),
        "minus infinity in bfloat16": lambda: bfloat16(0xFF80),
    },
}
CASES = [(code, what) for code, drafts in REFUSED.items() for what in drafts]


def refusal(draft: Draft, folder: Path, base: BaseModel = BASE) -> InvalidAdapter:
    with pytest.raises(InvalidAdapter) as caught:
        inspect_adapter(draft.write(folder), base, MAX_RANK)
    return caught.value


def accepted(draft: Draft, folder: Path, base: BaseModel = BASE) -> Inspection:
    return inspect_adapter(draft.write(folder), base, MAX_RANK)


@pytest.mark.parametrize(("code", "what"), CASES, ids=[" ".join(case).strip() for case in CASES])
def test_a_defect_is_refused_by_its_code(tmp_path: Path, code: str, what: str) -> None:
    error = refusal(REFUSED[code][what](), tmp_path)
    assert error.code == code, error.detail
    assert error.status == 422
    error.detail.encode()  # it is sent as UTF-8
    assert 10 < len(error.detail) < 500


def test_every_code_that_inspection_knows_is_asserted_here() -> None:
    sources = [ROOT / "registry" / f for f in ("inspect.py", "peft_config.py")]
    sources.append(ROOT / "registry" / "safetensors_header.py")
    text = "".join(source.read_text() for source in sources)
    raised = set(re.findall(r'InvalidAdapter\(\s*"(\w+)"', text))
    raised |= set(re.findall(r'"(\w+_unsupported)"', text))
    assert len(raised) > 25
    assert raised == set(REFUSED)


def test_a_good_adapter_is_described(tmp_path: Path) -> None:
    draft = weighing({**pair(), **pair(OTHER)})
    found = accepted(draft, tmp_path)
    assert found == Inspection(
        rank=RANK,
        alpha=8.0,
        target_modules=("q_proj",),
        dtype="float32",
        size_bytes=sum(file.stat().st_size for file in tmp_path.iterdir()),
        base_model="tiny",
        peft_config=draft.config,
        shapes_checked=True,
    )


def test_the_largest_rank_is_still_accepted(tmp_path: Path) -> None:
    draft = configured(r=MAX_RANK)
    draft.tensors = pair(rank=MAX_RANK)
    assert accepted(draft, tmp_path).rank == MAX_RANK


@pytest.mark.parametrize("alpha", [1, 0.5, 1e5])
def test_alpha_may_be_any_positive_number(tmp_path: Path, alpha: float) -> None:
    assert accepted(configured(lora_alpha=alpha), tmp_path).alpha == alpha


@pytest.mark.parametrize(
    "fields",
    [
        {"use_rslora": True},
        {"lora_dropout": 0.1},
        {"init_lora_weights": "gaussian"},
        {"init_lora_weights": False},
        {"layers_to_transform": [0]},
        {"target_modules": ".*q_proj"},
        {"modules_to_save": []},
        {"rank_pattern": {}},
        {"velora_config": {"scale": 1}},
        {"some_later_field": {"a": [1, {"b": None}]}},
    ],
    ids=str,
)
def test_what_does_not_matter_to_serving_is_accepted(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    assert accepted(configured(**fields), tmp_path).peft_config.items() >= fields.items()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_number_format_is_told(tmp_path: Path, dtype: str) -> None:
    draft = weighing({name: tensor.astype(dtype) for name, tensor in pair().items()})
    assert accepted(draft, tmp_path).dtype == dtype


def test_bfloat16_is_told_and_its_largest_number_is_finite(tmp_path: Path) -> None:
    assert accepted(bfloat16(0x7F7F), tmp_path).dtype == "bfloat16"


def test_different_number_formats_are_told_as_mixed(tmp_path: Path) -> None:
    tensors = pair()
    tensors[key(MODULE, "B")] = tensors[key(MODULE, "B")].astype(np.float16)
    assert accepted(weighing(tensors), tmp_path).dtype == "mixed"


def test_a_number_behind_the_first_chunk_is_looked_at(tmp_path: Path) -> None:
    wide = 2**21  # 4 rows of it in float16 are four chunks
    base = BaseModel("wide", {MODULE: (OUT, wide)})
    tensors = {
        key(MODULE, "A"): np.ones((RANK, wide), dtype=np.float16),
        key(MODULE, "B"): np.ones((OUT, RANK), dtype=np.float16),
    }
    assert accepted(weighing(tensors), tmp_path, base).rank == RANK
    tensors[key(MODULE, "A")][-1, 5] = np.nan
    assert refusal(weighing(tensors), tmp_path, base).code == "not_finite"


def test_a_pickle_beside_the_weights_does_no_harm(tmp_path: Path) -> None:
    assert accepted(Draft(files={"adapter_model.bin": b"x"}), tmp_path).rank == RANK


@pytest.mark.parametrize("name", [None, 5, ["tiny"]])
def test_the_base_model_may_be_unnamed(tmp_path: Path, name: object) -> None:
    assert accepted(configured(base_model_name_or_path=name), tmp_path).base_model is None


def test_the_base_models_name_is_made_fit_for_a_table(tmp_path: Path) -> None:
    found = accepted(configured(base_model_name_or_path="a\0" + "b" * 5000), tmp_path)
    assert found.base_model == "a" + "b" * 1023


def test_long_names_are_cut_in_messages(tmp_path: Path) -> None:
    for tensors in ({"x" * 1000: matrix(1)}, {key("y" * 900, "A"): matrix(RANK, IN)}):
        assert len(refusal(weighing(tensors), tmp_path).detail) < 300


# ---- the base model ----------------------------------------------------------------------


def test_without_the_base_models_weights_all_but_the_fit_is_checked(tmp_path: Path) -> None:
    anywhere = pair("some.module")
    found = accepted(weighing(anywhere), tmp_path, UNKNOWN_BASE)
    assert found.shapes_checked is False
    assert found.target_modules == ("module",)
    misfit = {**anywhere, key("some.module", "B"): matrix(OUT, 2)}
    assert refusal(weighing(misfit), tmp_path, UNKNOWN_BASE).code == "rank_mismatch"


def test_no_folder_and_no_safetensors_mean_an_unknown_base(tmp_path: Path) -> None:
    assert read_base_model("x", None) == BaseModel("x", None)
    assert read_base_model("x", tmp_path) == BaseModel("x", None)
    assert read_base_model("x", tmp_path / "none") == BaseModel("x", None)


def test_a_base_model_in_several_files_is_read_as_one(tmp_path: Path) -> None:
    for number, module in enumerate([MODULE, OTHER]):
        tensors = {f"{module}.weight": matrix(OUT, IN), f"{module}.bias": matrix(OUT)}
        save_file(tensors, tmp_path / f"model-0000{number}-of-00002.safetensors")
    assert read_base_model("x", tmp_path).shapes == {MODULE: (OUT, IN), OTHER: (OUT, IN)}


def test_a_broken_base_model_is_said(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(InvalidAdapter) as caught:
        read_base_model("x", tmp_path)
    assert caught.value.code == "header_invalid"


@pytest.mark.parametrize(
    "packed",
    [
        {"qweight": np.zeros((2, OUT), np.int32), "scales": matrix(2, OUT)},
        {"weight_packed": np.zeros((OUT, 2), np.int32), "weight_shape": np.zeros(2, np.int64)},
        {"weight": np.zeros((OUT * IN // 2, 1), np.uint8)},
    ],
    ids=["GPTQ and AWQ", "compressed-tensors", "bitsandbytes"],
)
def test_an_adapter_of_a_packed_layer_is_checked_by_name_only(
    tmp_path: Path, packed: dict[str, Array]
) -> None:
    base_folder, folder = tmp_path / "base", tmp_path / "adapter"
    base_folder.mkdir()
    folder.mkdir()
    tensors = {f"{MODULE}.{kind}": tensor for kind, tensor in packed.items()}
    save_file({**tensors, f"{OTHER}.weight": matrix(OUT, IN)}, base_folder / "model.safetensors")
    base = read_base_model("quantized", base_folder)
    assert accepted(Draft(), folder, base).shapes_checked is False
    assert accepted(weighing(pair(OTHER)), folder, base).shapes_checked is True
    assert accepted(weighing({**pair(), **pair(OTHER)}), folder, base).shapes_checked is False
    assert refusal(weighing(pair("other.module")), folder, base).code == "unknown_module"


# ---- the demo ----------------------------------------------------------------------------

ATTENTION = ("k_proj", "o_proj", "q_proj", "v_proj")
ALL = ("down_proj", "gate_proj", *ATTENTION, "up_proj")
DEMO_ADAPTERS = {
    "adapters/double": (16, 32, ATTENTION),
    "adapters/reverse": (16, 32, tuple(sorted(ALL))),
    "adapters/rot13": (16, 32, ("down_proj", "gate_proj", "o_proj", "up_proj")),
    "adapters/stars": (8, 16, ("down_proj", "q_proj", "up_proj", "v_proj")),
    "adapters/upper": (4, 8, tuple(sorted(ALL))),
    "adapters/vowels": (8, 16, ATTENTION),
    "adapters-v2/upper": (8, 16, tuple(sorted(ALL))),
}


def test_every_demo_adapter_is_tried() -> None:
    folders = [file.parent for file in DEMO.rglob("adapter_config.json")]
    assert {str(folder.relative_to(DEMO)) for folder in folders} == set(DEMO_ADAPTERS)


@pytest.mark.parametrize("name", DEMO_ADAPTERS)
def test_a_demo_adapter_is_accepted_as_what_it_is(name: str) -> None:
    folder = DEMO / name
    found = inspect_adapter(folder, read_base_model("demo", DEMO / "base"), MAX_RANK)
    assert (found.rank, found.alpha, found.target_modules) == DEMO_ADAPTERS[name]
    assert found.dtype == "float32"
    assert found.base_model == "demo/base"
    assert found.shapes_checked is True
    files = (folder / "adapter_config.json", folder / "adapter_model.safetensors")
    assert found.size_bytes == sum(file.stat().st_size for file in files)
    assert found.peft_config == json.loads(files[0].read_text())


def test_a_demo_adapter_of_a_larger_rank_than_served_is_refused() -> None:
    base = read_base_model("demo", DEMO / "base")
    with pytest.raises(InvalidAdapter) as caught:
        inspect_adapter(DEMO / "adapters" / "reverse", base, max_rank=8)
    assert caught.value.code == "rank_too_large"
