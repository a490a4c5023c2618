"""Inspector: proves, without loading it, that vLLM will serve an adapter as trained."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Self

from registry.errors import InvalidAdapter
from registry.errors.defects import Defect, Remark
from registry.inspection.base_model import BaseModel
from registry.inspection.compatibility import Placement, fit_problems
from registry.inspection.content_digest import digest_of
from registry.inspection.heads import head_problems
from registry.inspection.invocation import invocation_facts, invocation_problems
from registry.inspection.peft_config import (
    CONFIG_FILE,
    PeftConfig,
    config_problems,
    peft_config,
    read_json_config,
    unknown_fields,
)
from registry.inspection.safetensors_header import (
    WEIGHTS_FILE,
    TensorInfo,
    read_header,
    weights_file,
)
from registry.inspection.tensor_reader import DTYPES
from registry.inspection.tensors import AdapterTensors, matrix_problems, quote_name, sort_tensors
from registry.inspection.training import Training, compare_training
from registry.inspection.weights import value_problems

MAX_REMARKS = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """A defect, or a remark on an accepted adapter."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Inspection:
    """Facts of an accepted adapter. `rank` is the largest of its modules.

    `report`, plain JSON, is stored with the version: what was checked, and remarks.
    """

    rank: int
    alpha: float
    target_modules: tuple[str, ...]
    dtype: str
    size_bytes: int
    base_model: str | None
    peft_config: dict[str, Any]
    shapes_checked: bool
    content_digest: str | None = None
    chat_template: str | None = None
    sampling_defaults: dict[str, Any] | None = None
    report: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """All findings. `inspection` is None if there are problems.

    `problems` has one entry per defect; `counts` has how often each was found.
    """

    problems: tuple[Finding, ...]
    counts: Mapping[str, int]
    inspection: Inspection | None

    @classmethod
    def from_problem(cls, problem: InvalidAdapter) -> Self:
        return cls((Finding(problem.code, problem.detail),), {problem.code: 1}, None)


def inspect_adapter(
    folder: Path, base: BaseModel, max_rank: int, remarks: Sequence[tuple[str, str]] = ()
) -> Inspection:
    """Check configuration, header and values; time and memory are bounded by the file size.

    `remarks`: (code, detail) of what was noticed before.
    Raises InvalidAdapter for the first defect, EngineAway if the engine can't be asked now.
    """
    inspector = _Inspector(folder, base, max_rank, remarks)
    for problem in inspector.problems():
        raise problem
    return inspector.inspection()


def judge_adapter(
    folder: Path, base: BaseModel, max_rank: int, remarks: Sequence[tuple[str, str]] = ()
) -> Verdict:
    """The same checks, but all defects are reported. Raises EngineAway."""
    inspector = _Inspector(folder, base, max_rank, remarks)
    first: dict[str, Finding] = {}
    counts: Counter[str] = Counter()
    for problem in inspector.problems():
        first.setdefault(problem.code, Finding(problem.code, problem.detail))
        counts[problem.code] += 1
    return Verdict(tuple(first.values()), counts, None if first else inspector.inspection())


def check_fit(folder: Path, base: BaseModel) -> None:
    """Check what concerns the base model; reads no values. Raises InvalidAdapter, EngineAway."""
    for problem in _Inspector(folder, base, 2**31, ()).problems(with_values=False):
        raise problem


class _Inspector:
    """One pass over one adapter; its results are complete if `problems` found none."""

    _config: PeftConfig

    def __init__(
        self, folder: Path, base: BaseModel, max_rank: int, remarks: Sequence[tuple[str, str]]
    ) -> None:
        self._folder = folder
        self._base = base
        self._max_rank = max_rank
        self._noticed = remarks
        self._header: Mapping[str, TensorInfo] = {}
        self._tensors = AdapterTensors()
        self._placement = Placement(base, {})
        self._ranks: Mapping[str, int] = {}
        self._alphas: Mapping[str, float] = {}
        self._training = Training()

    def problems(self, *, with_values: bool = True) -> Iterator[InvalidAdapter]:
        """Defects, cheap checks first: values are read last."""
        config = None
        for found in self._config_or_problems():
            if isinstance(found, InvalidAdapter):
                yield found
            else:
                config = found
        try:
            self._header = read_header(weights_file(self._folder))
        except InvalidAdapter as problem:
            yield problem
            return
        self._tensors = sort_tensors(self._header)
        yield from self._tensors.problems
        self._placement = Placement.ask(self._tensors, self._base)
        yield from self._pair_problems(config)
        yield from fit_problems(self._tensors.pairs, self._placement)
        yield from head_problems(self._tensors, config.saved_modules if config else (), self._base)
        self._training = compare_training(self._folder, self._base.training)
        yield from self._training.problems()
        if with_values:
            yield from value_problems(
                self._folder / WEIGHTS_FILE, self._header, self._tensors, self._base, self._alphas
            )

    def inspection(self) -> Inspection:
        pairs, config = self._tensors.pairs, self._config
        dtypes = {half.dtype for pair in pairs.values() for half in (pair.a, pair.b)}
        files = {name: (self._folder / name).stat().st_size for name in (CONFIG_FILE, WEIGHTS_FILE)}
        shapes_checked = all(self._placement.shape(module) is not None for module in pairs)
        return Inspection(
            rank=max(self._ranks.values()),
            alpha=config.alpha,
            target_modules=tuple(sorted({module.rpartition(".")[2] for module in pairs})),
            dtype=DTYPES[dtypes.pop()] if len(dtypes) == 1 else "mixed",
            size_bytes=sum(files.values()),
            base_model=config.base_model,
            peft_config=config.raw,
            shapes_checked=shapes_checked,
            content_digest=digest_of(
                self._folder, config.raw, self._header, self._tensors.repeated
            ),
            chat_template=self._training.chat_template,
            sampling_defaults=self._training.sampling_defaults,
            report={"shapes_checked": shapes_checked, "files": files, **self._report()},
        )

    def _report(self) -> dict[str, Any]:
        pairs, served = self._tensors.pairs, self._base.served
        return {
            "engine": None if served is None else served.engine,
            "tensors": len(self._header),
            "modules": len(pairs),
            "ranks": {str(rank): n for rank, n in sorted(Counter(self._ranks.values()).items())},
            "parameters": sum(pair.parameters for pair in pairs.values()),
            **({"heads": sorted(self._tensors.heads)} if self._tensors.heads else {}),
            **invocation_facts(self._config.raw),
            "remarks": [
                {"code": str(remark.code), "detail": remark.detail}
                for remark in islice(self._remarks(), MAX_REMARKS)
            ],
        }

    def _config_or_problems(self) -> Iterator[InvalidAdapter | PeftConfig]:
        try:
            raw = read_json_config(self._folder)
        except InvalidAdapter as problem:
            yield problem
            return
        problems = list(config_problems(raw, self._max_rank))
        yield from problems
        if not problems:
            self._config = peft_config(raw)
            yield self._config

    def _pair_problems(self, config: PeftConfig | None) -> Iterator[InvalidAdapter]:
        pairs = self._tensors.pairs
        if config is not None:
            try:
                self._ranks = config.ranks(pairs)
                self._alphas = config.alphas(pairs)
            except InvalidAdapter as problem:
                yield problem
            yield from self._pattern_problems(config)
            yield from invocation_problems(config.raw, self._tensors, self._base)
        for module, pair in pairs.items():
            rank, experts = self._ranks.get(module), self._placement.experts(module)
            expected = None if rank is None or experts is None else rank * experts
            yield from matrix_problems(module, pair, DTYPES, expected)

    def _pattern_problems(self, config: PeftConfig) -> Iterator[InvalidAdapter]:
        if self._base.served is not None and self._base.served.patterns:
            return
        if any(rank != config.rank for rank in self._ranks.values()):
            detail = "rank_pattern: this vLLM does not know it"
            yield InvalidAdapter(Defect.RANK_PATTERN_UNSUPPORTED, detail)
        if any(alpha != config.alpha for alpha in self._alphas.values()):
            detail = "alpha_pattern: this vLLM would ignore it"
            yield InvalidAdapter(Defect.ALPHA_PATTERN_UNSUPPORTED, detail)

    def _remarks(self) -> Iterator[Finding]:
        yield from (Finding(*remark) for remark in (*self._noticed, *self._training.remarks()))
        if detail := self._base.doubt(self._config.base_model):
            yield Finding(Remark.BASE_MODEL_DIFFERS, detail)
        for name in unknown_fields(self._config.raw):
            detail = f"{quote_name(name)}: not known here, and ignored by vLLM"
            yield Finding(Remark.UNKNOWN_FIELD, detail)
        for module in self._tensors.repeated:
            detail = f"{quote_name(module)} repeats the base model's weights, which are not used"
            yield Finding(Remark.BASE_WEIGHTS_REPEATED, detail)
        if self._base.served is None:
            detail = "no engine was asked: whether it applies every module is not known"
            yield Finding(Remark.ENGINE_NOT_ASKED, detail)
