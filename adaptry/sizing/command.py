"""`adaptry size`: slots, host memory, rank and replicas that a workload and a goal need."""

from pathlib import Path
from typing import Annotated

import typer

from adaptry.sizing.question import Question
from adaptry.terminal.options import DEFAULT_SERVER, AsJson, Server
from engine.types import EvictionPolicy

_RATES = "Without a trace: "
Values = Annotated[
    str | None, typer.Option(metavar="N,N,…", help="Only these [default: what fits].")
]


def size(
    trace: Annotated[
        Path | None,
        typer.Argument(
            metavar="TRACE",
            help="What `adaptry trace export` wrote, or a .csv with time, adapter, tokens "
            "[default: what the server has recorded].",
        ),
    ] = None,
    first_token: Annotated[
        float, typer.Option(min=0.001, help="Goal: seconds to the first token.")
    ] = 0.5,
    share: Annotated[
        float, typer.Option(min=0.01, max=1, help="Goal: for this share of the requests.")
    ] = 0.99,
    adapters: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help=f"{_RATES}how many there are.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.001, max=100_000, help=f"{_RATES}requests a second.")
    ] = None,
    zipf: Annotated[
        float, typer.Option(min=0, max=10, help=f"{_RATES}skew; 0: all equally, 1: typical.")
    ] = 1.0,
    tokens: Annotated[
        int, typer.Option(min=1, max=1_000_000, help=f"{_RATES}mean of the generated tokens.")
    ] = 128,
    prompt_tokens: Annotated[
        int, typer.Option(min=0, max=10_000_000, help=f"{_RATES}of each request.")
    ] = 0,
    seconds: Annotated[
        float, typer.Option(min=1, max=1e7, help=f"{_RATES}length of the simulated traffic.")
    ] = 600,
    adapter_mib: Annotated[
        float, typer.Option(min=0, max=1e6, help=f"{_RATES}size of each adapter.")
    ] = 0,
    rank: Annotated[int, typer.Option(min=0, help=f"{_RATES}rank of each adapter.")] = 0,
    faster: Annotated[
        float, typer.Option(min=0.001, max=1000, help="The same requests, so many times as fast.")
    ] = 1,
    requests: Annotated[
        int, typer.Option(min=1, max=5_000_000, help="At most the last so many of the trace.")
    ] = 20_000,
    warm: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of the time whose requests don't count.")
    ] = 0.1,
    slots: Values = None,
    host_places: Values = None,
    replicas: Values = None,
    eviction_policy: Annotated[
        EvictionPolicy | None, typer.Option(help="[default: the recorded server's, or adaptive]")
    ] = None,
    max_rank: Annotated[
        int | None, typer.Option(min=1, help="Of the slots [default: the largest there is].")
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Measure the server's costs; takes seconds.")
    ] = False,
    costs: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Costs that --save-costs wrote.")
    ] = None,
    save_costs: Annotated[Path | None, typer.Option(metavar="FILE", help="Write them.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.svg", help="Draw the curves.")] = None,
    model: Annotated[str, typer.Option(help="For the line that follows.")] = "MODEL",
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Simulate a recorded trace; say how many slots, host places and replicas its goal needs.

    It is served by the server's own cache policy on a virtual clock. Without a trace, --adapters
    and --rate say what comes. Costs are measured (--calibrate), read (--costs), recorded, or
    assumed; the report says which.
    """
    # the simulation takes longer to import than --help to show
    from adaptry.sizing.answer import answer

    question = Question(
        trace=trace,
        first_token=first_token,
        share=share,
        adapters=adapters,
        rate=rate,
        zipf=zipf,
        tokens=tokens,
        prompt_tokens=prompt_tokens,
        seconds=seconds,
        adapter_mib=adapter_mib,
        rank=rank,
        faster=faster,
        requests=requests,
        warm=warm,
        slots=slots,
        host_places=host_places,
        replicas=replicas,
        eviction_policy=eviction_policy,
        max_rank=max_rank,
        calibrate=calibrate,
        costs=costs,
        save_costs=save_costs,
        plot=plot,
        model=model,
        server=server,
        as_json=as_json,
    )
    answer(question)
