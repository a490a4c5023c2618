"""Dashboard generator: `python -m grafana.build` writes dashboards/*.json for Grafana."""

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from grafana.adapters import ADAPTERS
from grafana.cache import CACHE
from grafana.frame import Frame, build_dashboard
from grafana.registry import REGISTRY

FOLDER = Path(__file__).parent / "dashboards"
FILES: dict[str, Frame] = {
    "cache.json": CACHE,
    "adapters.json": ADAPTERS,
    "registry.json": REGISTRY,
}


def render(frame: Frame) -> str:
    content = json.dumps(
        build_dashboard(frame), cls=JSONEncoder, indent=2, ensure_ascii=False, sort_keys=True
    )
    return f"{content}\n"


if __name__ == "__main__":
    for name, frame in FILES.items():
        (FOLDER / name).write_text(render(frame), encoding="utf-8")
