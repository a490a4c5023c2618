"""The client's models: each is there by its name, for people and for type checkers."""

import ast
import importlib
import pickle
from pathlib import Path
from typing import Any

import pytest

from adaptry.client import models


def test_each_is_listed_before_it_is_imported() -> None:
    assert set(models.__all__) <= set(dir(models))


def test_each_is_there_by_its_name_and_no_other_is() -> None:
    found: dict[str, Any] = {}
    exec("from adaptry.client.models import *", found)
    assert set(models.__all__) <= set(found)
    for name in models.__all__:
        assert found[name] is getattr(models, name)
    with pytest.raises(AttributeError, match="AdapterReed"):
        getattr(models, "AdapterReed")  # noqa: B009  # a type checker would refuse it


def test_they_can_be_pickled_by_their_earlier_place_too() -> None:
    usage = models.Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3)
    content = pickle.dumps(usage, protocol=0)
    assert pickle.loads(content) == usage
    before = content.replace(b"adaptry.client.models.generate", b"adaptry.client.models")
    assert before != content
    assert pickle.loads(before) == usage


def test_a_type_checker_refuses_a_name_that_is_not_there() -> None:
    """It would take any, if it saw that the module has an `__getattr__`."""
    module = importlib.import_module("adaptry.client.models")
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    seen = [each.name for each in tree.body if isinstance(each, ast.FunctionDef)]
    assert "__getattr__" not in seen
