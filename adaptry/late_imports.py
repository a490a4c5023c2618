"""Late imports: modules that a library imports at its start, and a command hardly ever uses."""

import importlib
import sys
from types import ModuleType

_NO_PLUGINS = ModuleType("pydantic.plugin._loader")
_NO_PLUGINS.__dict__["get_plugins"] = tuple  # called, it is ()


class _LateModule(ModuleType):
    """Stands for a module until something of it is asked for. importlib's LazyLoader would import
    it at the next `import`, which looks at its spec."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def put_off(*names: str) -> None:
    """Import each when it is first used, or not at all; not if it has been imported already."""
    for name in names:
        sys.modules.setdefault(name, _LateModule(name))


def leave_out() -> None:
    """What a command never uses."""
    # where click is installed, httpx imports its own command line, with rich and pygments: 40 ms
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # None: can't be imported
    # to find plugins, pydantic reads the metadata of each installed package: 20 ms. Its variable
    # against that would reach the server that `adaptry demo` starts
    sys.modules.setdefault(_NO_PLUGINS.__name__, _NO_PLUGINS)
    put_off("ssl", "secrets")  # of http.client for https, and of pydantic for tokens
