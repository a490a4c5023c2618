"""Merged metrics: those of all replicas as one text, each series with its replica's name."""

import re
from collections.abc import Mapping

_HEAD = re.compile(r"# (?:HELP|TYPE|UNIT) (\S+)")
_END = "# EOF"


class _Family:
    def __init__(self) -> None:
        self.head: list[str] = []
        self.samples: list[str] = []


def merge(own: str, replicas: Mapping[str, str]) -> str:
    """`own`: the ingress's. All in Prometheus' text format, or all in OpenMetrics.

    The formats want the series of a family together, so they are grouped by family.
    """
    families: dict[str, _Family] = {}
    _add(families, own, "")
    for name, text in sorted(replicas.items()):
        _add(families, text, name)
    lines = [line for each in families.values() for line in (*each.head, *each.samples)]
    if own.rstrip().endswith(_END):
        lines.append(_END)
    return "\n".join(lines) + "\n"


def _add(families: dict[str, _Family], text: str, replica: str) -> None:
    family, is_new = _Family(), True
    for line in text.splitlines():
        if (head := _HEAD.match(line)) is not None:
            name = head[1]
            if families.get(name) is not family:
                is_new = name not in families
                family = families.setdefault(name, _Family())
            if is_new:
                family.head.append(line)
        elif line and not line.startswith("#"):
            family.samples.append(_add_label(line, replica))


def _add_label(sample: str, replica: str) -> str:
    if not replica:
        return sample
    name, brace, rest = sample.partition("{")
    if brace and " " not in name:
        comma = "" if rest.startswith("}") else ","
        return f'{name}{{replica="{replica}"{comma}{rest}'
    name, _, rest = sample.partition(" ")
    return f'{name}{{replica="{replica}"}} {rest}'
