"""Host memory that is available to this process: on the machine, or in its container if less."""

from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")


def available_bytes(cgroup: Path | None = None) -> int:
    """`cgroup`: by default, the container's as it is mounted within."""
    machine = int(psutil.virtual_memory().available)
    folder = cgroup or CGROUP
    try:
        limit = int((folder / "memory.max").read_text())
        used = int((folder / "memory.current").read_text())
        fields = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no cgroup v2, or no limit ("max")
        return machine
    cached = int(fields.get("inactive_file", 0)) + int(fields.get("active_file", 0))
    return min(machine, limit - used + cached)
