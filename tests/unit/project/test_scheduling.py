"""The order in which the test processes take up their work."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.support.scheduling import LONGEST_FIRST, ROOT, Scheduler, group_of

FILES = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "tests").rglob("test_*.py"))]


class Node:
    """A test process that is given work."""

    shutting_down = False

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.collection: list[str] = []

    def send_runtest_some(self, indices: list[int]) -> None:
        self.asked += [self.collection[index] for index in indices]

    def shutdown(self) -> None:
        self.shutting_down = True


def test_all_that_is_named_as_long_is_there() -> None:
    assert set(LONGEST_FIRST) <= {group_of(file) for file in FILES}


def test_files_that_share_servers_are_one_group() -> None:
    for folder, group in (("fleet", "fleet"), ("browser", "engine")):
        shared = {
            group_of(str(path.relative_to(ROOT)))
            for path in Path(ROOT / "tests" / folder).glob("test_*.py")
        }
        assert group in shared
    assert group_of("tests/faults/test_two_servers.py") == "tests/faults/test_two_servers.py"


def test_the_longest_begins_first() -> None:
    short, long, longest = FILES[0], LONGEST_FIRST[3], LONGEST_FIRST[1]
    clocks = "tests/faults/test_clocks.py"
    tests = [f"{file}::test_{n}" for file in (short, long, clocks) for n in range(3)]
    assert group_of(clocks) == longest
    option = SimpleNamespace(loadscopereorder=True)
    config: Any = SimpleNamespace(getvalue=lambda _: ["popen"], option=option)
    scheduler = Scheduler(config)
    node = Node()
    node.collection = tests
    scheduler.add_node(node)
    scheduler.add_node_collection(node, tests)
    scheduler.schedule()
    for number in (6, 7, 8, 3, 4, 5):
        scheduler.mark_test_complete(node, number)
    assert node.asked == tests[6:] + tests[3:6] + tests[:3]
