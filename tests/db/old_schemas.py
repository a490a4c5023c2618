"""A registry as it was at each revision of its schema: rows as that release wrote them, as SQL.

The database gives the ids, as it did then. A revision that adds a table adds rows for it here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from registry.database.migrate import alembic_config
from registry.storage.integrity import manifest_digest
from tests.support.adapters.demo_files import demo_files

REVISIONS = [
    script.revision
    for script in ScriptDirectory.from_config(alembic_config("sqlite://")).walk_revisions()
][::-1]
FIRST = "d622580f067d"
VERSIONS = ("upper", "reverse", "rot13", "upper")  # what the rows 1 to 4 hold
DIGESTS = {name: manifest_digest(demo_files(name)) for name in set(VERSIONS)}


def at(day: int) -> str:
    return f"'2026-01-{day:02} 00:00:00'"


def _version(adapter: int, number: int, content: str, state: str, reason: str = "NULL") -> str:
    return (
        "INSERT INTO version (adapter_id, number, digest, state, state_reason, rank, alpha,"
        " target_modules, dtype, base_model, size_bytes, source, peft_config, created_at,"
        f" created_by) VALUES ({adapter}, {number}, '{DIGESTS[content]}', '{state}', {reason}, 4,"
        """ 8.0, '["q_proj", "v_proj"]', 'float32', 'tiny-text-tools', 159744,"""
        f""" '/srv/{content}', '{{"peft_type": "LORA", "r": 4}}', {at(number)}, 'anna')"""
    )


def _event(day: int, kind: str, adapter: int, to: int, alias: str = "NULL") -> str:
    return (
        "INSERT INTO event (at, actor, kind, adapter_id, alias, to_version, reason) VALUES"
        f" ({at(day)}, 'anna', '{kind}', {adapter}, {alias}, {to}, 'because')"
    )


def _adapter(name: str, description: str) -> str:
    columns = "name, description, created_at"
    return f"INSERT INTO adapter ({columns}) VALUES ('{name}', {description}, {at(1)})"


def _alias(adapter: int, name: str, version: int, day: int) -> str:
    columns = "adapter_id, name, version_id, moved_at"
    return f"INSERT INTO alias ({columns}) VALUES ({adapter}, '{name}', {version}, {at(day)})"


ROWS: Mapping[str, tuple[str, ...]] = {
    FIRST: (
        _adapter("support", "'Answers letters'"),
        _adapter("other", "NULL"),
        _version(1, 1, "upper", "ready"),
        _version(1, 2, "reverse", "ready"),
        _version(1, 3, "rot13", "retired", "'too old'"),
        _version(2, 1, "upper", "deprecated"),
        _alias(1, "default", 2, 2),
        _alias(1, "prod", 1, 3),
        _alias(2, "default", 4, 4),
        _event(1, "version.registered", 1, 1),
        _event(2, "version.registered", 1, 2),
        _event(3, "alias.moved", 1, 1, "'prod'"),
    ),
    "646b2ac67985": (
        f"INSERT INTO pin (version_id, tier, pinned_at) VALUES (1, 'host', {at(5)})",
        "INSERT INTO resident (version_id, position) VALUES (1, 0), (2, 1)",
    ),
    "3b1f6d0c92a4": (
        f"UPDATE version SET state_code = 'old', state_changed_at = {at(6)} WHERE id = 3",
    ),
    "8e54a7c1d3f0": (
        f"UPDATE alias_history SET valid_to = {at(7)} WHERE adapter_id = 1 AND alias = 'prod'",
        "INSERT INTO alias_history (adapter_id, alias, revision, version_id, weight, valid_from,"
        f" actor, reason) VALUES (1, 'prod', 2, 2, 1, {at(7)}, 'bert', 'better')",
        "UPDATE alias SET version_id = 2, revision = 2 WHERE adapter_id = 1 AND name = 'prod'",
    ),
    "c07d92b5e816": (
        f"""UPDATE adapter SET owner = 'team', tags = '["mail"]', updated_at = {at(8)}"""
        " WHERE id = 1",
        "INSERT INTO adapter_term (kind, value, adapter_name) VALUES ('tag', 'mail', 'support')",
        "UPDATE version SET parent_id = 1, dataset = 'letters' WHERE id = 2",
    ),
    "5b1f0c7a92de": (
        "INSERT INTO event (at, actor, kind, adapter_id, alias, from_version, to_version, reason,"
        f" uid, data, imported) VALUES ({at(9)}, 'bert', 'alias.moved', 1, 'prod', 1, 2, 'better',"
        f" '{'ab' * 16}', '{{\"a\": 1}}', false)",
    ),
    "9c6402442c04": (
        "INSERT INTO webhook (url, kinds, adapters, secret, enabled, failures, last_event_id,"
        " created_at, created_by) VALUES ('https://example.com/hooks', '[]', '[]', 'whsec_AAAA',"
        f" false, 0, 4, {at(10)}, 'bert')",
        "INSERT INTO webhook_delivery (webhook_id, event_id, message_id, kind, state, attempts,"
        f" next_attempt_at, created_at) VALUES (1, 4, 'm', 'alias.moved', 'pending', 1, {at(11)},"
        f" {at(11)})",
    ),
    "7d41f0c95ae3": (
        "INSERT INTO api_key (public_id, name, secret_hash, scopes, created_at, created_by) VALUES"
        f""" ('abcdefghijkl', 'app', '{"0" * 64}', '["infer"]', {at(12)}, 'bert')""",
    ),
    "3e8b54d7c1f2": (
        "INSERT INTO tenant (name, created_at, created_by, max_pins) VALUES"
        f" ('acme', {at(12)}, 'bert', 3)",
        "INSERT INTO adapter_grant (adapter_id, tenant, granted_at, granted_by) VALUES"
        f" (1, 'acme', {at(12)}, 'bert')",
    ),
    "e3a5c81f07d4": (
        "INSERT INTO served_name (owner, name, adapter_id, alias, created_at, created_by) VALUES"
        f" ('', 'Org/Support', 1, 'prod', {at(12)}, 'bert')",
    ),
    "c4a1b7e05d92": (f"INSERT INTO tenant_registration (tenant, at) VALUES ('acme', {at(7)})",),
    "5ac3e1f7b208": (
        "INSERT INTO base_model (name, digest, facts, created_at) VALUES"
        f" ('one', '{'1' * 64}', '{{}}', {at(12)}), ('two', '{'2' * 64}', '{{}}', {at(12)})",
        "INSERT INTO base_model_link (first_id, second_id, created_at, created_by) VALUES"
        f" (1, 2, {at(12)}, 'bert')",
    ),
    "b90d4c26e71f": (
        f"INSERT INTO server (name, base_id, started_at) VALUES ('here:8000', 1, {at(13)})",
    ),
    "5c2e9a7b40d6": (
        "UPDATE tenant SET max_tokens_per_minute = 5000000000",
        "INSERT INTO rate_count (name, used, expires_at) VALUES ('LIMITER/key/1', 3, 4102444800)",
    ),
    "4e7b19d5c0a3": (
        "INSERT INTO further_number (adapter_id, number, version_id) VALUES (2, 3, 4)",
    ),
    "a81f03d6c95e": (
        "INSERT INTO cache_history (server, began_at, ended_at, expires_at, size_bytes, totals,"
        " content) VALUES ('here:8000', 1, 2, 4102444800000000, 1, '{\"hits\": 1}', 'x')",
    ),
    "c3d95f1be704": (
        "INSERT INTO prompt_set (owner, name, prompts, updated_at, updated_by) VALUES"
        f" ('', 'tickets', '[\"hello\"]', {at(13)}, 'anna')",
    ),
    "2c996db42209": (
        "INSERT INTO job (adapter, source, request, workspace, state, attempts, bytes_done,"
        " cancel_requested, version, created, created_by, created_at, finished_at) VALUES"
        " ('support', 'hf://org/repo', '{}', 'w', 'succeeded', 1, 159744, false, 2, true, 'anna',"
        f" {at(2)}, {at(2)})",
    ),
}


Rows = list[tuple[Any, ...]]
Ask = Callable[[str], Awaitable[Rows]]


def in_connection(url: str, work: Callable[[Ask], Awaitable[Rows]]) -> Rows:
    """What it returns; all that it asks is one transaction."""

    async def run() -> Rows:
        engine = create_async_engine(url)
        async with engine.begin() as connection:

            async def ask(statement: str) -> Rows:
                result = await connection.execute(text(statement.replace(":", r"\:")))
                return [tuple(row) for row in result] if result.returns_rows else []

            found = await work(ask)
        await engine.dispose()
        return found

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, run()).result()


def asked(url: str, *statements: str) -> Rows:
    """Rows of the last statement."""

    async def each(ask: Ask) -> Rows:
        return [await ask(statement) for statement in statements][-1]

    return in_connection(url, each)


def fill_until(url: str, last: str) -> None:
    """Every revision in turn, and in each the rows that its release wrote."""
    for revision in REVISIONS[: REVISIONS.index(last) + 1]:
        command.upgrade(alembic_config(url), revision)
        fill(url, revision)


def fill(url: str, revision: str) -> None:
    """The rows that the release of this revision wrote."""
    if rows := ROWS.get(revision):
        asked(url, *rows)
