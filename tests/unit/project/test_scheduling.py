"""The order in which the test processes take up their work."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.support.scheduling import OTHERS, ROOT, SERVERS, Scheduler, group_of

FILES = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "tests").rglob("test_*.py"))]


class Node:
    """A test process that is given work."""

    shutting_down = False
    gateway = SimpleNamespace(id="gw")

    def __init__(self, collection: list[str]) -> None:
        self.asked: list[str] = []
        self.collection = collection

    def send_runtest_some(self, indices: list[int]) -> None:
        self.asked += [self.collection[index] for index in indices]

    def shutdown(self) -> None:
        self.shutting_down = True


def test_all_that_is_named_as_long_is_there() -> None:
    assert {*SERVERS, *OTHERS} <= {group_of(file) for file in FILES}


def test_files_that_share_servers_are_one_group() -> None:
    for folder, group in (("fleet", "fleet"), ("browser", "browser"), ("contract", "contract")):
        shared = {
            group_of(str(path.relative_to(ROOT)))
            for path in Path(ROOT / "tests" / folder).glob("test_*.py")
        }
        assert group in shared
    assert group_of("tests/faults/test_two_servers.py") == "forked"
    alone = "tests/e2e/security/test_secret_leaks.py"
    assert group_of(alone) == alone


def started(*collection: str, nodes: int) -> list[Node]:
    option = SimpleNamespace(loadscopereorder=True)
    config: Any = SimpleNamespace(getvalue=lambda _: ["popen"] * nodes, option=option)
    scheduler = Scheduler(config)
    made = [Node(list(collection)) for _ in range(nodes)]
    for node in made:
        scheduler.add_node(node)
        scheduler.add_node_collection(node, node.collection)
    scheduler.schedule()
    return made


def three_of(*files: str) -> list[str]:
    return [f"{file}::test_{n}" for file in files for n in range(3)]


def test_the_longest_begins_first() -> None:
    short, long, longest = FILES[0], SERVERS[7], "tests/faults/test_clocks.py"
    one, other = started(*three_of(short, long, longest), nodes=2)
    assert group_of(longest) == SERVERS[6]
    assert (one.asked, other.asked) == (three_of(longest), three_of(long))


def test_one_of_three_begins_without_an_engine() -> None:
    files = (SERVERS[9], OTHERS[0], SERVERS[8], SERVERS[7], FILES[0])
    asked = [node.asked for node in started(*three_of(*files), nodes=3)]
    assert asked == [three_of(SERVERS[7]), three_of(SERVERS[8]), three_of(OTHERS[0])]
