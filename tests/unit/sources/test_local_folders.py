"""Local folders as they really are: full of links, or no folder of an adapter at all."""

import errno
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from adaptry.client.errors import InvalidSource
from adaptry.client.resources.registration import _open_files
from registry.errors import InvalidAdapter, SourceUnavailable
from registry.sources.base import FetchLimits, Progress
from registry.sources.local import LocalSource

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
LIMITS = FetchLimits(max_bytes=1000)


def write(folder: Path, *names: str) -> Path:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    return folder


def fetched(folder: Path, root: Path) -> dict[str, str]:
    into = root / "into"
    into.mkdir()
    LocalSource(folder, [root]).copy(into, LIMITS, Progress())
    return {file.name: file.read_text() for file in into.iterdir()}


def refusal(folder: Path, root: Path) -> InvalidAdapter:
    with pytest.raises(InvalidAdapter) as caught:
        fetched(folder, root)
    return caught.value


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path.resolve() / "root"
    root.mkdir()
    return root


def test_a_snapshot_of_the_hubs_cache_is_copied(root: Path) -> None:
    model = root / "models--org--upper"
    write(model / "blobs", "aa", "bb")
    snapshot = model / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    for name, blob in ((CONFIG, "aa"), (WEIGHTS, "bb")):
        (snapshot / name).symlink_to(f"../../blobs/{blob}")
    assert LocalSource(snapshot, [root]).size_bytes() == 4
    assert fetched(snapshot, root) == {CONFIG: "aa", WEIGHTS: "bb"}


def test_a_volume_of_kubernetes_is_copied(root: Path) -> None:
    volume = root / "volume"
    write(volume / "..2026_11_29", CONFIG, WEIGHTS)
    (volume / "..data").symlink_to("..2026_11_29")
    for name in (CONFIG, WEIGHTS):
        (volume / name).symlink_to(f"..data/{name}")
    assert fetched(volume, root) == {CONFIG: CONFIG, WEIGHTS: WEIGHTS}


def test_a_link_that_leads_out_of_the_roots_is_not_followed(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "outside", CONFIG)
    folder = write(root / "a", WEIGHTS)
    (folder / CONFIG).symlink_to(tmp_path / "outside" / CONFIG)
    problem = refusal(folder, root)
    assert problem.code == "unsafe_file"
    assert "adaptry adapter push" in problem.detail
    assert not list((root / "into").iterdir())


def test_a_tenants_link_into_the_folder_of_another_is_not_followed(root: Path) -> None:
    write(root / "b" / "theirs", CONFIG)
    folder = write(root / "a" / "own", WEIGHTS)
    (folder / CONFIG).symlink_to(root / "b" / "theirs" / CONFIG)
    with pytest.raises(InvalidAdapter):
        LocalSource(folder, [root / "a"]).size_bytes()


def test_a_folder_that_leads_elsewhere_meanwhile_is_noticed(root: Path, tmp_path: Path) -> None:
    """Between the look at the files and the opening of one."""
    folder = write(root / "a", CONFIG, WEIGHTS)
    write(tmp_path / "outside", CONFIG, WEIGHTS)

    class Swapped(LocalSource):
        def _files(self):  # type: ignore[no-untyped-def]  # the same as what it overrides
            files = super()._files()
            folder.rename(root / "gone")
            folder.symlink_to(tmp_path / "outside")
            return files

    into = root / "into"
    into.mkdir()
    with pytest.raises(InvalidAdapter):
        Swapped(folder, [root]).copy(into, LIMITS, Progress())
    assert not [file for file in into.iterdir() if file.stat().st_size]


@pytest.mark.parametrize(
    ("names", "code", "says"),
    [
        (["adapter_model-00001-of-00002.safetensors", CONFIG], "weights_sharded", "several files"),
        (["adapter_model.safetensors.index.json", CONFIG], "weights_sharded", "several files"),
        (["adapters.safetensors", CONFIG], "mlx_adapter", "MLX"),
        (["pytorch_lora_weights.safetensors"], "diffusion_adapter", "diffusers"),
        (["config.json", "model.safetensors"], "whole_model", "a whole model"),
        (["config.json", "model-00001-of-00002.safetensors"], "whole_model", "a whole model"),
        ([f"sft/{CONFIG}", f"sft/{WEIGHTS}"], "config_missing", "sft/"),
        (
            [f"checkpoint-{step}/{name}" for step in (100, 200) for name in (CONFIG, WEIGHTS)],
            "config_missing",
            "checkpoint-100/, checkpoint-200/",
        ),
    ],
)
def test_a_folder_of_something_else_is_named_for_what_it_is(
    root: Path, names: list[str], code: str, says: str
) -> None:
    folder = write(root / "a", *names)
    problem = refusal(folder, root)
    assert problem.code == code
    assert says in problem.detail
    with pytest.raises(InvalidSource, match=says):  # `adaptry adapter push` says the same
        list(_open_files(folder, None, None))  # type: ignore[arg-type]  # nothing is opened


def test_an_adapter_of_a_diffusion_model_is_told_by_its_tensors(root: Path, tmp_path: Path) -> None:
    """Kohya's scripts give the one file any name."""
    folder = write(root / "a", "README.md")
    parts = ("lora_down.weight", "lora_up.weight", "alpha")
    tensors = {f"lora_te_text_model_encoder_0_fc1.{part}": np.ones((2, 2)) for part in parts}
    save_file(tensors, folder / "my style.safetensors")
    problem = refusal(folder, root)
    assert problem.code == "diffusion_adapter"
    assert "my style.safetensors" in problem.detail
    assert "kohya" in problem.detail
    with pytest.raises(InvalidSource, match="kohya"):
        list(_open_files(folder, None, None))  # type: ignore[arg-type]  # nothing is opened
    linked = write(root / "b", "README.md")
    (linked / "other.safetensors").symlink_to(folder / "my style.safetensors")
    with pytest.raises(InvalidSource, match="there is no"):  # a link may lead anywhere
        list(_open_files(linked, None, None))  # type: ignore[arg-type]


def test_a_folder_with_other_files_beside_the_adapters_is_copied(root: Path) -> None:
    folder = write(root / "a", CONFIG, WEIGHTS, "config.json", "model.safetensors", "b/README.md")
    assert fetched(folder, root) == {CONFIG: CONFIG, WEIGHTS: WEIGHTS}


def test_a_training_file_that_cannot_be_read_is_left_out_with_a_remark(root: Path) -> None:
    """The kernel answers a read of its start with an input/output error."""
    folder, into = write(root / "bot", CONFIG, WEIGHTS, "chat_template.jinja"), root / "into"
    into.mkdir()
    (folder / "tokenizer.json").symlink_to("/proc/self/mem")
    found = LocalSource(folder, [root, Path("/proc")]).copy(into, LIMITS, Progress())
    assert [file.name for file in found.files] == [CONFIG, WEIGHTS]
    assert [(code, detail.split()[-1]) for code, detail in found.remarks] == [
        ("training_unread", "tokenizer.json")
    ]
    assert [file.name for file in (into / "beside").iterdir()] == ["chat_template.jinja"]


def test_a_folder_whose_files_would_have_too_long_a_path_has_none(root: Path) -> None:
    folder = root
    while len(str(folder)) < 4000:
        folder /= "a" * min(250, 4085 - len(str(folder)))
    folder.mkdir(parents=True)
    assert LocalSource(folder, [root]).size_bytes() == 0


async def test_a_folder_whose_disk_fails_is_unavailable(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: LocalSource) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(LocalSource, "size_bytes", fail)
    with pytest.raises(SourceUnavailable, match="can't be read now: Input/output error"):
        await LocalSource(write(root / "bot", CONFIG), [root]).total_bytes()
