"""Rows as plain SQL, for tests that must not depend on our models."""

ADAPTER = "INSERT INTO adapter (id, name, created_at) VALUES (1, 'a', '2026-01-01 00:00:00')"


def version(
    *, id: str = "1", adapter: str = "1", state: str = "'ready'", modules: str = "[]"
) -> str:
    """An INSERT; `id` "" lets the database choose. The arguments are SQL but for `modules`."""
    columns = {
        "id": id,
        "adapter_id": adapter,
        "number": "1",
        "digest": f"'{'ab' * 32}'",
        "state": state,
        "rank": "8",
        "alpha": "16",
        "target_modules": f"'{modules}'",
        "dtype": "'float32'",
        "size_bytes": "5",
        "source": "'/a'",
        "peft_config": "'{}'",
        "created_at": "'2026-01-01 00:00:00'",
        "created_by": "'x'",
    }
    given = {name: value for name, value in columns.items() if value}
    return f"INSERT INTO version ({', '.join(given)}) VALUES ({', '.join(given.values())})"
