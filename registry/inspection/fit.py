"""Fit: whether an engine can serve an accepted adapter, from its configuration and header alone.

Versions outlive engines: the next one may have a smaller rank, other modules or other shapes.
"""

from itertools import chain
from pathlib import Path

from registry.errors import InvalidAdapter
from registry.errors.defects import Defect
from registry.inspection.base_model import BaseModel
from registry.inspection.compatibility import Placement, fit_problems
from registry.inspection.heads import head_problems
from registry.inspection.invocation import invocation_problems
from registry.inspection.peft_config import config_problems, read_json_config, saved_modules
from registry.inspection.safetensors_header import WEIGHTS_FILE, read_header
from registry.inspection.tensors import sort_tensors


def find_misfit(folder: Path, base: BaseModel, max_rank: int) -> InvalidAdapter | None:
    """Why this engine can't serve it; None if it can. Values are not read again.

    Raises InvalidAdapter if the files are not those of an adapter, EngineAway, and OSError.
    """
    config = read_json_config(folder)
    for problem in config_problems(config, max_rank):
        if problem.code == Defect.RANK_TOO_LARGE:
            return problem
    tensors = sort_tensors(read_header(folder / WEIGHTS_FILE))
    misfits = chain(
        fit_problems(tensors.pairs, Placement.ask(tensors, base)),
        head_problems(tensors, tuple(saved_modules(config)), base),
        invocation_problems(config, tensors, base),
    )
    return next(misfits, None)


def rank_problem(rank: int, max_rank: int) -> InvalidAdapter | None:
    """The same by what the registry knows, without the files."""
    if rank <= max_rank:
        return None
    return InvalidAdapter(Defect.RANK_TOO_LARGE, f"rank {rank} is over --max-lora-rank {max_rank}")
