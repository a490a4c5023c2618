"""Sums over the series of a metric on a /metrics page, in Prometheus' plain format."""


def total(page: str, name: str, **labels: str) -> float:
    """Of those with these labels. A metric that has none yet is 0; one that is unknown, an error:
    else a test that nothing was counted could not fail.
    """
    lines = page.splitlines()
    assert any(line.startswith(f"# TYPE {name} ") for line in lines), f"{name} is not on /metrics"
    wanted = {f'{label}="{value}"' for label, value in labels.items()}
    found = 0.0
    for line in lines:
        series, _, value = line.rpartition(" ")
        own_name, _, own_labels = series.partition("{")
        if own_name == name and all(f",{each}" in f",{own_labels}" for each in wanted):
            found += float(value)
    return found
