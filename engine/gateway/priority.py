"""Priority: under `--scheduling-policy priority`, vLLM serves requests of a lower one first, and
takes running ones out for them. So a tenant's may go behind those of others, not before them.
"""

from engine.errors import PriorityNotAllowed
from registry.auth.caller import current_caller


def check_priority(priority: object) -> None:
    """Of the running request. `priority`: as its body has it, where vLLM reads "-1" as a number.

    Raises PriorityNotAllowed.
    """
    if priority and current_caller().tenant is not None and _is_negative(priority):
        raise PriorityNotAllowed


def _is_negative(priority: object) -> bool:
    if isinstance(priority, str):
        return priority.strip().startswith("-")
    return isinstance(priority, int | float) and priority < 0
