"""Garbage collector: what is alive once the tests are collected is never searched again.

Thousands of tests and the libraries that they import are hundreds of thousands of objects. Each
full collection of a later test would walk through all of them, and took a fifth of the CPU time of
a test of the API.
"""

import gc
from collections.abc import Iterator

import pytest

OBJECTS = 10_000  # new ones before it looks through them: Python's 700 are for small programs


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.set_threshold(OBJECTS, 10, 10)
        gc.enable()
