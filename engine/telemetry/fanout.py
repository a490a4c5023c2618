"""Several who watch the cache."""

from engine.events import CacheEvent
from engine.ports import Observer


class Observers:
    """Tells each of them, in order."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def saw(self, event: CacheEvent) -> None:
        for observer in self._observers:
            observer.saw(event)
