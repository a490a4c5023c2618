"""A real Azurite, Azure's Blob storage in memory, on a port of its own."""

from pathlib import Path

PROGRAM = Path(__file__).parents[3] / ".venv/azurite/node_modules/azurite/dist/src/blob/main.js"
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Azurite's own, which everybody knows."""

COMMAND = (
    *("node", str(PROGRAM), "--blobHost", "127.0.0.1", "--blobPort", "{port}"),
    *("--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck", "--silent"),
)


def connection_string(port: int) -> str:
    where = f"http://127.0.0.1:{port}/{ACCOUNT}"
    return (
        f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
        f"BlobEndpoint={where};"
    )
