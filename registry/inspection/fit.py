"""Fit: whether an engine can serve an accepted adapter, from its configuration and header alone.

Versions outlive engines: the next one may have a smaller rank, other modules or other shapes.
"""

from pathlib import Path

from registry.errors import InvalidAdapter
from registry.errors.defects import Defect
from registry.inspection.base_model import BaseModel
from registry.inspection.compatibility import fit_problems
from registry.inspection.inspector import WEIGHTS_FILE
from registry.inspection.peft_config import config_problems, read_json_config
from registry.inspection.safetensors_header import read_header
from registry.inspection.tensors import sort_tensors


def find_misfit(folder: Path, base: BaseModel, max_rank: int) -> InvalidAdapter | None:
    """Why this engine can't serve it; None if it can. Values are not read again.

    Raises InvalidAdapter if the files are not those of an adapter, and OSError.
    """
    for problem in config_problems(read_json_config(folder), max_rank):
        if problem.code == Defect.RANK_TOO_LARGE:
            return problem
    pairs = sort_tensors(read_header(folder / WEIGHTS_FILE)).pairs
    return next(fit_problems(pairs, base), None)


def rank_problem(rank: int, max_rank: int) -> InvalidAdapter | None:
    """The same by what the registry knows, without the files."""
    if rank <= max_rank:
        return None
    return InvalidAdapter(Defect.RANK_TOO_LARGE, f"rank {rank} is over --max-lora-rank {max_rank}")
