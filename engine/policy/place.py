"""Place: where an adapter is on its way in. Pure.

A plan compares places a hundred times. Python 3.11 takes 0.2 µs to read a member by its class, so
those that are compared often have names of their own here.
"""

from enum import Enum, auto
from typing import Final


class Place(Enum):
    """One without a place is on disk only."""

    LOADING = auto()
    SLOW = auto()  # being loaded for so long that another is loaded in its place
    STAGED = auto()  # loaded beside the tiers, waits for a place in the host tier
    COMMITTING = auto()
    HOST = auto()
    ACTIVATING = auto()
    SLOT = auto()


LOADING: Final = Place.LOADING
SLOW: Final = Place.SLOW
STAGED: Final = Place.STAGED
COMMITTING: Final = Place.COMMITTING
HOST: Final = Place.HOST
ACTIVATING: Final = Place.ACTIVATING
SLOT: Final = Place.SLOT
