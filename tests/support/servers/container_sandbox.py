"""The image of deploy/container/Containerfile, as far as it can be had without a container engine.

Its COPY and RUN steps are carried out in folders of ours, which bubblewrap shows to the process as
/opt/adaptry and so on. This machine's Debian and Python stand for the base image's, and the
bytecode of its packages for the image's: to compile it takes longer than all else. Packages are
linked where uv's cache can be, as in the checkout's own environment: they are 4 GB.
"""

import filecmp
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Mapping, Sequence, Set
from importlib.util import cache_from_source
from pathlib import Path

from tests.support.docs.containerfile import ROOT, Instruction, all_of, stages

INSTALLED = "/opt/adaptry"
_CACHE = "uv-cache"  # in the image while it is built: there are no links from one mount to another
_MADE_ANEW = {"dev", "home", "mnt", "opt", "proc", "root", "run", "sys", "tmp", "var", "work"}
_PYTHON = Path(sys.base_prefix)
_PACKAGES = Path(sysconfig.get_paths()["purelib"])


class Image:
    """What was built, in one folder: `opt`, `etc` and `var` are the image's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.opt = folder / "opt"
        self.etc = folder / "etc"
        self.var = folder / "var"
        self._link_mode = "copy"

    def build(self, engine: str) -> None:
        """The stages, but for packages of Debian. Raises AssertionError."""
        _, build, last = stages()
        for folder in (self.opt, self.var / "lib", self.var / "cache"):
            folder.mkdir(parents=True)
        shutil.copytree("/etc", self.etc, symlinks=True)
        self._link_cache((ROOT / "requirements").glob(f"*{engine}.txt"))
        for step in build:
            if step.name == "COPY":
                self._copy(step)
            elif step.name == "RUN":
                self._run(step, ENGINE=engine)
        shutil.rmtree(self.opt / _CACHE)
        self._take_bytecode()
        for step in all_of(last, "RUN"):
            self._run(step)

    def _link_cache(self, required: Iterable[Path]) -> None:
        """So that nothing is fetched that is here already. Copied where this environment's is."""
        text = "\n".join(file.read_text(encoding="utf-8") for file in required)
        locked = set(re.findall(r"^[\w.-]+==[\w.!+-]+", text, re.MULTILINE))
        cache = Path(os.environ.get("UV_CACHE_DIR", Path.home() / ".cache" / "uv"))
        cache.mkdir(parents=True, exist_ok=True)
        here = (_PACKAGES / "torch" / "__init__.py").stat()
        if here.st_nlink > 1 and cache.stat().st_dev == here.st_dev == self.opt.stat().st_dev:
            self._link_mode = "hardlink"
        link = ["cp", "-a", *(["--link"] if self._link_mode == "hardlink" else [])]
        (ours := self.opt / _CACHE).mkdir()
        for bucket in filter(Path.is_dir, cache.iterdir()):
            (ours / bucket.name).mkdir()
            if entries := [str(entry) for entry in bucket.iterdir() if _is_needed(entry, locked)]:
                subprocess.run([*link, *entries, str(ours / bucket.name)], check=True)

    def _take_bytecode(self) -> None:
        """Of the modules that are the same, which need the same time for it to be theirs."""
        (installed,) = self.opt.glob(".venv/lib/python*/site-packages")
        for here in _PACKAGES.rglob("*.py"):
            bytecode = Path(cache_from_source(here))
            inside = installed / here.relative_to(_PACKAGES)
            if not bytecode.exists() or not inside.exists():
                continue
            linked = here.samefile(inside)  # its time is the cache's, and others' who link it
            if linked or (inside.stat().st_nlink == 1 and filecmp.cmp(here, inside, shallow=False)):
                if not linked:
                    times = here.stat()
                    os.utime(inside, ns=(times.st_atime_ns, times.st_mtime_ns))
                inside.with_name("__pycache__").mkdir(exist_ok=True)
                taken = Path(cache_from_source(inside))
                taken.unlink(missing_ok=True)  # a wheel may have it, and a link is the cache's too
                shutil.copy(bytecode, taken)

    def _copy(self, step: Instruction) -> None:
        *sources, target = step.words
        for source in sources:
            into = self.opt / target
            if (ROOT / source).is_dir():
                left_out = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / source, into, ignore=left_out, dirs_exist_ok=True)
            else:
                into = into / source if target.endswith("/") else into
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, into)

    def _run(self, step: Instruction, **arguments: str) -> None:
        """As root, in a file system that is writable where an image's is."""
        python = {"PYTHON": str(_PYTHON / "bin" / "python3")}
        python |= {"UV_CACHE_DIR": f"{INSTALLED}/{_CACHE}", "UV_LINK_MODE": self._link_mode}
        python |= {"UV_COMPILE_BYTECODE": "0"}
        inside = [
            *self._debian(),
            *("--bind", str(self.etc), "/etc", "--bind", str(self.opt), INSTALLED),
            *_binds("--bind", {self.var / name: f"/var/{name}" for name in ("lib", "cache")}),
            *_mirrors(),
            *("--chdir", INSTALLED, "sh", "-ec", step.value),
        ]
        # the tests' own engine has its libraries preloaded, which are not in there
        outside = {name: os.environ[name] for name in os.environ if name != "LD_PRELOAD"}
        environment = {**outside, **python, **arguments}
        done = subprocess.run(
            ["bwrap", *inside],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise AssertionError(f"RUN {step.value}\n{done.stdout[-4000:]}")

    def command(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        user: int,
        writable: Mapping[Path, str],
        readable: Mapping[Path, str],
        first: bool = False,
    ) -> list[str]:
        """Runs as `user` without any capability, with nothing to write to but what is named.

        `writable`, `readable`: places inside by paths here. `first`: its process id is 1.
        """
        names = [f"--setenv={name}={value}" for name, value in environment.items()]
        variables = [part for name in names for part in name.split("=", 2)]
        return [
            *("bwrap", "--die-with-parent", "--clearenv", *variables),
            *(("--unshare-pid", "--as-pid-1") if first else ()),
            *self._debian(),
            *("--ro-bind", str(self.etc), "/etc", "--ro-bind", str(self.opt), INSTALLED),
            *_binds("--bind", writable),
            *_binds("--ro-bind", readable),
            *("--chdir", environment["HOME"], "--remount-ro", "/"),
            *("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"),
            *("--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"),
            *command,
        ]

    def _debian(self) -> list[str]:
        """This machine's files, of which nothing can be written to, and fresh ones where not."""
        options: list[str] = []
        for entry in sorted(Path("/").iterdir()):
            if entry.is_symlink():
                options += ["--symlink", str(entry.readlink()), str(entry)]
            elif entry.is_dir() and entry.name not in _MADE_ANEW | {"etc"}:
                options += ["--ro-bind", str(entry), str(entry)]
        parents = {"/opt", "/var", "/var/lib", "/var/cache", "/mnt", *map(str, _PYTHON.parents)} - {
            "/",
            "/usr",
        }
        for place in sorted(parents):  # by itself bubblewrap makes them for root only
            options += ["--perms", "0755", "--dir", place]
        options += ["--ro-bind", str(_PYTHON), str(_PYTHON), "--ro-bind", "/sys", "/sys"]
        options += ["--proc", "/proc", "--dev", "/dev"]
        for place in ("/dev/shm", "/tmp"):
            options += ["--perms", "1777", "--tmpfs", place]
        return options


def _binds(option: str, places: Mapping[Path, str]) -> list[str]:
    return [part for here, inside in places.items() for part in (option, str(here), inside)]


def _is_needed(entry: Path, locked: Set[str]) -> bool:
    """Whether an entry of uv's cache is no package, or one of these (`name==version`)."""
    packages = [found.stem.rsplit("-", 1) for found in entry.glob("*.dist-info")]
    found = {f"{name.replace('_', '-').lower()}=={version}" for name, version in packages}
    return not found or not found.isdisjoint(locked)


def _mirrors() -> list[str]:
    """Folders from which this machine's pip installs, where they are not below / as others are."""
    folders = [Path("/opt") / name for name in os.listdir("/opt") if name != "adaptry"]
    return _binds("--ro-bind", {folder: str(folder) for folder in folders if folder.is_dir()})
