"""Export of the event log as a stream of lines, one page in memory at a time."""

from collections.abc import AsyncIterator, Sequence

from registry.events.hash_chain import chained_line
from registry.events.log import EventLog, RecordedEvent
from registry.events.repository import EventFilter
from registry.events.schemas import event_read

_PAGE = 500
_SETTLE_SECONDS = 5.0


class EventExport:
    """Exports events up to the watermark, by id; repeated exports are identical."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    async def lines(self, filters: EventFilter, *, after: int, chain: str) -> AsyncIterator[bytes]:
        """Reads the first page before it returns. Raises DatabaseUnavailable.

        Later pages raise it from the iterator, so that the response is aborted, not silently short.
        """
        up_to = await self._log.watermark.catch_up(_SETTLE_SECONDS)
        first = await self._log.between(after, up_to, filters, _PAGE)
        return self._pages(first, up_to, filters, chain)

    async def _pages(
        self, page: Sequence[RecordedEvent], up_to: int, filters: EventFilter, chain: str
    ) -> AsyncIterator[bytes]:
        while page:
            lines = []
            for recorded in page:
                line, chain = chained_line(_content(recorded), chain)
                lines.append(line)
            yield b"".join(lines)
            if len(page) < _PAGE:
                return
            page = await self._log.between(page[-1].id, up_to, filters, _PAGE)


def _content(recorded: RecordedEvent) -> dict[str, object]:
    return event_read(recorded, with_address=True).model_dump(mode="json")
