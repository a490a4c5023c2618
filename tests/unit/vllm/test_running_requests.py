"""Running requests, in vLLM's own table of them: each end is seen once, where it happens."""

import asyncio

import pytest
import torch
from vllm.pooling_params import PoolingParams
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine import EngineCoreOutput, FinishReason
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.engine.output_processor import OutputProcessor, RequestOutputCollector
from vllm.v1.engine.parallel_sampling import ParentRequest

from engine.errors import EngineError, EnginePaused, GenerationIncomplete
from engine.types import WorkDone
from engine.vllm.ends.unfinished_pooling import fill_unfinished_pooling
from engine.vllm.running_requests import RunningRequest, watch_requests
from tests.support.running_requests import track_additions
from tests.support.vllm.requests import SAMPLING, engine_core_request


class Core:
    """vLLM's client of the engine: may hang before an abort has reached it."""

    def __init__(self) -> None:
        self.aborted: list[str] = []
        self.reachable = asyncio.Event()
        self.reachable.set()

    async def abort_requests_async(self, request_ids: list[str]) -> None:
        await self.reachable.wait()
        self.aborted += request_ids


class Engine:
    """vLLM's own output processor, watched, over a scripted core."""

    def __init__(self) -> None:
        self.core = Core()
        self.processor = OutputProcessor(None, log_stats=False)
        watch_requests(self.processor, self.core)
        self.ended: list[WorkDone] = []
        self.deaths = 0

    def add(self, n: int = 1) -> tuple[RunningRequest, RequestOutputCollector]:
        running = RunningRequest()
        running.on_end = self.ended.append
        running.on_engine_death = self._died
        sampling = SamplingParams(n=n, **SAMPLING)
        request = engine_core_request("r", sampling)
        queue = RequestOutputCollector(RequestOutputKind.DELTA, "r")
        with track_additions(running):
            if n == 1:
                self.processor.add_request(request, None, None, 0, queue)
            else:
                parent = ParentRequest(request)
                for index in range(n):
                    child_id, child_params = parent.get_child_info(index)
                    child = engine_core_request(child_id, child_params)
                    self.processor.add_request(child, None, parent, index, queue)
        running.finish_adding()
        return running, queue

    def _died(self) -> None:
        self.deaths += 1

    def says(self, request_id: str, *tokens: int, finish: FinishReason | None = None) -> list[str]:
        output = EngineCoreOutput(request_id, list(tokens), finish_reason=finish)
        to_abort: list[str] = self.processor.process_outputs([output]).reqs_to_abort
        return to_abort

    def pool(self) -> tuple[list[str], RequestOutputCollector]:
        """A request of a pooling engine, and the outcomes that it was cut with."""
        fill_unfinished_pooling(self.processor)
        running, cuts = RunningRequest(), list[str]()

        def on_cut(outcome: str, is_forced: bool) -> EngineError:
            cuts.append(outcome)
            return EnginePaused()

        running.on_end, running.on_cut = self.ended.append, on_cut
        params = PoolingParams(task="embed")
        queue = RequestOutputCollector(RequestOutputKind.FINAL_ONLY, "r")
        with track_additions(running):
            self.processor.add_request(engine_core_request("r", params), None, None, 0, queue)
        running.finish_adding()
        return cuts, queue

    async def abort(self, request_id: str) -> None:
        """As `AsyncLLM.abort` does."""
        ids = self.processor.abort_requests([request_id], internal=True)
        await self.core.abort_requests_async(ids)


@pytest.fixture
async def engine() -> Engine:
    return Engine()


async def test_a_request_ends_when_the_engine_has_finished_it_though_no_client_reads(
    engine: Engine,
) -> None:
    _, queue = engine.add()
    engine.says("r", 7)
    assert engine.ended == []
    engine.says("r", 8, finish=FinishReason.LENGTH)
    assert [(d.prompt_tokens, d.generated_tokens) for d in engine.ended] == [(3, 2)]
    output = await queue.get()
    assert output.finished, "and a later reader finds all of it"


async def test_of_several_completions_the_last_one_ends_the_request(
    engine: Engine,
) -> None:
    running, _ = engine.add(n=3)
    assert running.id == "r"
    for index in range(3):
        assert engine.ended == []
        engine.says(f"{index}_r", 7, finish=FinishReason.STOP)
    assert [d.generated_tokens for d in engine.ended] == [3]


async def test_an_aborted_request_ends_once_the_abort_was_sent(engine: Engine) -> None:
    engine.add()
    engine.core.reachable.clear()
    aborting = asyncio.create_task(engine.abort("r"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert engine.ended == [], "its slot is not free before the engine knows"
    engine.core.reachable.set()
    await aborting
    assert len(engine.ended) == 1
    assert engine.core.aborted == ["r"]


async def test_an_abort_is_sent_even_if_its_caller_is_cancelled(
    engine: Engine,
) -> None:
    engine.add()
    engine.core.reachable.clear()
    aborting = asyncio.create_task(engine.abort("r"))
    await asyncio.sleep(0)
    aborting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await aborting
    assert engine.ended == []
    engine.core.reachable.set()
    for _ in range(3):
        await asyncio.sleep(0)
    assert engine.core.aborted == ["r"]
    assert len(engine.ended) == 1


async def test_an_end_that_the_engine_has_not_seen_waits_for_its_abort(
    engine: Engine,
) -> None:
    """A stop string is found beside the engine."""
    _, queue = engine.add()
    state = engine.processor.request_states["r"]
    state.detokenizer.update = lambda tokens, terminated: "stop"
    to_abort = engine.says("r", 7)
    assert to_abort == ["r"]
    assert engine.ended == []
    await engine.core.abort_requests_async(to_abort)
    assert len(engine.ended) == 1
    assert (await queue.get()).finished


async def test_a_request_rejected_without_a_token_reports_a_dying_engine(
    engine: Engine,
) -> None:
    _, queue = engine.add()
    engine.says("r", finish=FinishReason.ABORT)
    assert engine.deaths == 1
    assert len(engine.ended) == 1
    with pytest.raises(EngineDeadError):
        await queue.get()


async def test_other_early_ends_are_no_failures(engine: Engine) -> None:
    _, queue = engine.add()
    engine.says("r", 7)
    engine.says("r", finish=FinishReason.ABORT)
    assert (await queue.get()).finished
    engine.add()
    engine.says("r", finish=FinishReason.STOP)
    engine.add()
    await engine.abort("r")
    assert engine.deaths == 0
    assert len(engine.ended) == 3


async def test_a_death_of_the_engine_ends_every_request(engine: Engine) -> None:
    _, queue = engine.add(n=2)
    engine.processor.propagate_error(EngineDeadError())
    assert engine.deaths == 1
    assert len(engine.ended) == 1
    with pytest.raises(EngineDeadError):
        await queue.get()
    await engine.abort("r")
    assert len(engine.ended) == 1


async def test_a_request_that_never_reached_the_engine_ends_when_adding_it_ends(
    engine: Engine,
) -> None:
    running = RunningRequest()
    running.on_end = engine.ended.append
    with track_additions(running):
        assert engine.ended == []
    running.finish_adding()
    assert [d.prompt_tokens for d in engine.ended] == [0]


async def test_requests_of_others_pass_through_the_table_untouched(engine: Engine) -> None:
    queue = RequestOutputCollector(RequestOutputKind.DELTA, "r")
    sampling = SamplingParams(**SAMPLING)
    engine.processor.add_request(engine_core_request("r", sampling), None, None, 0, queue)
    engine.says("r", 7, finish=FinishReason.LENGTH)
    assert (await queue.get()).finished
    assert engine.ended == []
    assert not engine.processor.request_states


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("tokens", [[7], []], ids=["after a token", "before one"])
async def test_an_error_of_the_engine_is_noticed(engine: Engine, tokens: list[int], n: int) -> None:
    running, _ = engine.add(n)
    seen: list[str] = []
    running.on_error = lambda: seen.append("error")
    for request_id in ["r"] if n == 1 else ["0_r", "1_r"]:
        engine.says(request_id, *tokens, finish=FinishReason.ERROR)
    assert seen
    assert (len(engine.ended), engine.deaths) == (1, 0)


async def test_a_usual_end_is_none(engine: Engine) -> None:
    running, _ = engine.add()
    seen: list[str] = []
    running.on_error = lambda: seen.append("error")
    engine.says("r", 7, finish=FinishReason.STOP)
    assert seen == []


async def test_pooling_that_the_engine_ends_without_numbers_is_cut(engine: Engine) -> None:
    """As at a pause. An assertion of vLLM's would end the task that reads for all requests."""
    cuts, queue = engine.pool()
    assert engine.says("r", finish=FinishReason.ABORT) == []
    assert (cuts, len(engine.ended)) == (["failed"], 1)
    with pytest.raises(EnginePaused):
        await queue.get()


async def test_pooling_that_fails_in_the_engine_is_an_error_and_not_cut(engine: Engine) -> None:
    cuts, queue = engine.pool()
    assert engine.says("r", finish=FinishReason.ERROR) == []
    assert (cuts, len(engine.ended)) == ([], 1)
    with pytest.raises(GenerationIncomplete):
        await queue.get()


@pytest.mark.parametrize("numbers", [torch.ones(3), torch.tensor(0.5)], ids=["vector", "score"])
async def test_pooling_that_has_its_numbers_is_whole(engine: Engine, numbers: torch.Tensor) -> None:
    cuts, queue = engine.pool()
    output = EngineCoreOutput("r", [], finish_reason=FinishReason.STOP, pooling_output=numbers)
    engine.processor.process_outputs([output])
    assert (cuts, len(engine.ended)) == ([], 1)
    assert (await queue.get()).outputs.data is numbers
