"""Extras of the package: which one installs a module that a command lacks."""

from collections.abc import Sequence

OF_SERVER = frozenset(
    {
        "aiohttp",
        "aiosqlite",
        "alembic",
        "asyncpg",
        "cachetools",
        "fastapi",
        "fsspec",
        "httptools",
        "huggingface_hub",
        "limits",
        "msgspec",
        "numpy",
        "opentelemetry",
        "prometheus_client",
        "prometheus_fastapi_instrumentator",
        "psutil",
        "pydantic_settings",
        "python_multipart",
        "safetensors",
        "sqlalchemy",
        "sqlmodel",
        "uvicorn",
        "uvloop",
    }
)
OF_ENGINE = frozenset({"setproctitle", "torch", "transformers", "vllm"})
HOW = "`pip install 'THE-WHEEL[{0}]'`, or `pip install '.[{0}]'` in a checkout"


def missing_extra(error: ModuleNotFoundError, arguments: Sequence[str]) -> str | None:
    """What to install; None if the module is in no extra of ours."""
    module = (error.name or "").partition(".")[0]
    if module == "pyarrow":
        return (
            f"Parquet needs the extra [parquet], which is not installed here (no module {module}): "
            f"{HOW.format('parquet')}"
        )
    if module not in OF_SERVER | OF_ENGINE:
        return None
    command = " ".join(["adaptry", *arguments[:1]])
    is_engine = arguments[:1] in (["serve"], ["demo"]) or module in OF_ENGINE
    extra, note = ("cpu", " ([cuda] with an NVIDIA GPU)") if is_engine else ("server", "")
    return (
        f"`{command}` needs the extra [{extra}]{note}, which is not installed here "
        f"(no module {module}): {HOW.format(extra)}"
    )
