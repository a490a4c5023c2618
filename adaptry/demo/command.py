"""`adaptry demo`: starts a server with the demo model, registers adapters, prints what to try."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from adaptry.demo.child_process import ServerProcess, Stop, last_words
from adaptry.serve import preflight
from adaptry.shipped_files import shipped
from adaptry.terminal.errors import CommandError
from adaptry.terminal.job_progress import PhaseLine, register
from adaptry.terminal.options import connect
from adaptry.terminal.output import shown

if TYPE_CHECKING:
    from adaptry.client import Client

HOST = "127.0.0.1"
NEEDED_BYTES = 3 * preflight.GIB  # measured: the server and its engine take 2 GiB together
START_LIMIT_SECONDS = 300.0
PINNED = "upper"

# In the order of a start: the last of these marks in the log tells how far it is.
PHASES = (
    ("Resolved architecture", "starting the engine's process"),
    ("Initializing a V1 LLM engine", "starting the engine"),
    ("Starting to load model", "loading the model"),
    ("KV cache size", "preparing the key-value cache"),
    ("Application startup complete", "almost ready"),
)


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """The address and the files of one demo."""

    port: int
    state: Path
    replicas: int | None = None  # None: one engine, without Ray Serve

    @property
    def base_url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def model(self) -> Path:
        return shipped("demo") / "base"

    @property
    def log(self) -> Path:
        return self.state / "server.log"

    @property
    def second_version(self) -> Path:
        """Another version of the pinned adapter, with other output."""
        return shipped("demo") / "adapters-v2" / PINNED

    def adapters(self) -> list[Path]:
        """Plain ones, then those that act from their invocation on."""
        folders = ("adapters", "adapters-activated")
        found = (self.model.parent.glob(f"{folder}/*/adapter_config.json") for folder in folders)
        return [path.parent for paths in found for path in sorted(paths)]

    def command(self, engine: str) -> list[str]:
        # vLLM's adapter kernels for GPUs know 16-bit types only; CPUs without bfloat16 emulate it
        exact = ("--dtype", "float32") if engine == "vllm-cpu" else ()
        return [
            *(sys.executable, "-m", "adaptry", "serve", str(self.model)),
            *("--profile", "demo", *exact),
            *("--host", HOST, "--port", str(self.port)),
            *("--database", f"sqlite+aiosqlite:///{self.state / 'adaptry.db'}"),
            *("--store", str(self.state / "store")),
            *("--source-root", str(self.model.parent)),
            *(() if self.replicas is None else ("--replicas", str(self.replicas))),
        ]

    def check(self) -> str:
        """Check that the server can start; returns vLLM's distribution. Raises NotReady."""
        advice = "this installation is not complete"
        preflight.check_folder(self.model, "the demo model", advice)
        engine = preflight.check_engine()
        preflight.check_compiler(engine, eager=True)  # as the demo's profile says
        preflight.check_writable(self.state)
        preflight.check_port(HOST, self.port)
        preflight.check_memory(NEEDED_BYTES * (self.replicas or 1))
        return engine


def demo(
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Where to listen on 127.0.0.1.")
    ] = 8000,
    state: Annotated[Path, typer.Option(help="Database, adapter store and log.")] = Path(
        ".adaptry/demo"
    ),
    replicas: Annotated[
        int | None,
        typer.Option(min=1, max=8, help="Engines, by Ray Serve [default: one, without Ray]."),
    ] = None,
) -> None:
    """Serve the demo model with its adapters and print what to try."""
    run_demo(port, state, replicas)


def run_demo(port: int, state: Path, replicas: int | None = None) -> None:
    """Serve until stopped. Raises CommandError if the server does not start or dies."""
    plan = DemoPlan(port, state.absolute(), replicas)
    engine = plan.check()
    with stop_on_signals():
        try:
            server = ServerProcess(plan.command(engine), plan.log, shipped("demo").parent)
            try:
                serve(plan, server)
            finally:
                say("\nStopping the server ...")
                server.stop()
        except Stop:
            say("Stopped. The state is kept in " + shown(plan.state))


def serve(plan: DemoPlan, server: ServerProcess) -> None:
    from adaptry.demo.guide import Guide
    from adaptry.demo.promotion import promote_and_roll_back

    progress = PhaseLine()
    say(f"Starting vLLM over the demo model; its log is {shown(plan.log)}")
    with connect(plan.base_url) as client:
        wait_until_ready(plan, server, client, progress)
        names = register_all(plan, client)
        client.cache.pin(PINNED, "gpu")
        say(f"Serving on {plan.base_url} after {progress.seconds:.0f} s")
        command = shown(Path(sys.executable).with_name("adaptry"))
        guide = Guide(plan.base_url, command, names, PINNED)
        say(guide.text())
        for line in promote_and_roll_back(client, guide, plan.second_version):
            say(line)
    say("\nCtrl-C stops the server.")
    while not server.wait(1.0):
        pass
    raise death_of(plan, server)


def wait_until_ready(
    plan: DemoPlan, server: ServerProcess, client: "Client", progress: PhaseLine
) -> None:
    try:
        while not client.is_ready():
            if server.exit_code() is not None:
                raise death_of(plan, server)
            if progress.seconds > START_LIMIT_SECONDS:
                raise CommandError(
                    f"the server was not ready within {START_LIMIT_SECONDS:.0f} s; "
                    f"its log is {shown(plan.log)}"
                )
            progress.show(phase_of(server.log_text()))
            time.sleep(0.25)
    finally:
        progress.end()


def register_all(plan: DemoPlan, client: "Client") -> list[str]:
    """Register over REST. Registering the same files again gives the same version."""
    new = 0
    folders = plan.adapters()
    for folder in folders:
        new += register(client, folder.name, str(folder), None).is_new
    say(f"Registered {len(folders)} adapters over REST, {new} of them new; pinned {PINNED}")
    return [folder.name for folder in folders]


def death_of(plan: DemoPlan, server: ServerProcess) -> CommandError:
    words = last_words(server.log_text())
    return CommandError(f"the server ended: {words} (all of it: {shown(plan.log)})")


def phase_of(log_text: str) -> str:
    reached = [phase for mark, phase in PHASES if mark in log_text]
    return reached[-1] if reached else "importing vLLM"


def say(text: str) -> None:
    print(text, flush=True)


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Ctrl-C, `kill` and a closed terminal all raise Stop while the block runs."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stop

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
