"""Report of the comparison: every measurement, and what activated ones cost of plain ones."""

from statistics import median

from benchmarks.common.tables import print_table

KINDS = ("activated", "plain")
Figures = dict[str, list[float]]
"""Every measurement by its name."""


def report(figures: Figures, lengths: tuple[int, ...]) -> None:
    of = {name: median(values) for name, values in figures.items()}
    rows = [
        {"figure": name, "median": f"{of[name]:.4g}", "all": " ".join(f"{v:.4g}" for v in values)}
        for name, values in figures.items()
    ]
    print_table(rows)
    print()
    print_table([_ratios(of, length) for length in lengths])


def _ratios(of: dict[str, float], length: int) -> dict[str, str]:
    one, eight = (
        {kind: of[f"{length}: {what}, {kind}, ms"] for kind in KINDS}
        for what in ("one turn", "eight judges by eight requests")
    )
    fan_out = of[f"{length}: eight judges by fan-out, activated, ms"]
    memory = of[f"{length}: KV memory of eight turns ÷ of one, activated"]
    return {
        "conversation": str(length),
        "one turn, activated ÷ plain": f"1/{one['plain'] / one['activated']:.1f}",
        "eight judges, activated ÷ plain": f"1/{eight['plain'] / eight['activated']:.1f}",
        "eight by requests ÷ one": f"{eight['activated'] / one['activated']:.2f}",
        "eight by fan-out ÷ one": f"{fan_out / one['activated']:.2f}",
        "KV memory, eight ÷ one": f"{memory:.2f}",
    }
