"""Figure of the sweep, as SVG: a panel for each kind of wait, a line for each number of waiters."""

import math
from collections.abc import Iterator, Mapping

Values = Mapping[tuple[float, int], float]

_WIDTH, _HEIGHT, _LEFT, _TOP = 340, 240, 56, 40
_SECONDS = (0.1, 1, 10, 100)
_COLORS = ("#00695c", "#1d5fa8", "#92500a", "#a3262a", "#6a3d9a", "#5b6670")
_STYLE = """<style>
    svg { --ink: #1f2933; --line: #c3cad0; background: #ffffff }
    @media (prefers-color-scheme: dark) {
      svg { --ink: #e8ecef; --line: #4b555d; background: #1f2428 }
      .series { filter: brightness(1.9) }
    }
    text { font: 12px system-ui, sans-serif; fill: var(--ink) }
    .grid { stroke: var(--line) }
    .series { fill: none; stroke-width: 2 }
  </style>"""


def draw(panels: Mapping[str, Values]) -> str:
    """Both axes in seconds, logarithmic: generation length, and wait."""
    width = len(panels) * (_WIDTH + _LEFT) + 110
    height = _HEIGHT + _TOP + 50
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"  <title>{' and '.join(panels)}, by generation length and waiting adapters</title>",
        f"  {_STYLE}",
    ]
    for number, (title, values) in enumerate(panels.items()):
        parts += _panel(title, values, _LEFT + number * (_WIDTH + _LEFT))
    waiting = sorted({each for values in panels.values() for _, each in values})
    parts += _legend(waiting, width - 100)
    return "\n".join([*parts, "</svg>", ""])


def _panel(title: str, values: Values, left: int) -> Iterator[str]:
    generations = sorted({generation for generation, _ in values})
    low, high = math.log(generations[0]), math.log(generations[-1])

    def x(generation: float) -> float:
        return left + (math.log(generation) - low) / max(high - low, 1e-9) * (_WIDTH - 20)

    yield f'  <text x="{left}" y="{_TOP - 16}">{title}, s</text>'
    for seconds in _SECONDS:
        y = _y(seconds)
        yield f'  <path class="grid" d="M{left} {y:.1f}h{_WIDTH - 20}"/>'
        yield f'  <text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{seconds:g}</text>'
    for generation in generations:
        yield (
            f'  <text x="{x(generation):.1f}" y="{_TOP + _HEIGHT + 18}" text-anchor="middle">'
            f"{generation:g}</text>"
        )
    yield f'  <text x="{left}" y="{_TOP + _HEIGHT + 38}">generation length, s</text>'
    for number, waiting in enumerate(sorted({each for _, each in values})):
        points = [(x(g), _y(values[g, waiting])) for g in generations]
        path = "L".join(f"{each[0]:.1f} {each[1]:.1f}" for each in points)
        yield f'  <path class="series" stroke="{_COLORS[number % len(_COLORS)]}" d="M{path}"/>'


def _y(seconds: float) -> float:
    low, high = math.log(_SECONDS[0]), math.log(_SECONDS[-1] * 3)
    at = math.log(max(seconds, _SECONDS[0]))
    return _TOP + _HEIGHT * (1 - (at - low) / (high - low))


def _legend(waiting: list[int], left: int) -> Iterator[str]:
    yield f'  <text x="{left}" y="{_TOP}">waiting</text>'
    for number, each in enumerate(waiting):
        y = _TOP + 22 * (number + 1)
        color = _COLORS[number % len(_COLORS)]
        yield f'  <path class="series" stroke="{color}" d="M{left} {y - 4}h22"/>'
        yield f'  <text x="{left + 28}" y="{y}">{each}</text>'
