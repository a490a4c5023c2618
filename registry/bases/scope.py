"""Scope of a server: the base models whose versions it serves, as SQL."""

from sqlalchemy import ColumnElement, CompoundSelect, and_, func, or_, select, true, union
from sqlmodel import col

from registry.inspection.base_identity import BaseIdentity
from registry.models import BaseLink, KnownBase, Version


def served_bases(identity: BaseIdentity) -> "CompoundSelect[int]":
    """Row ids of this base model and of those that were declared compatible with it."""
    own = select(col(KnownBase.id)).where(is_base(identity))
    first, second = col(BaseLink.first_id), col(BaseLink.second_id)
    return union(
        own,
        select(second).where(first.in_(own)),
        select(first).where(second.in_(own)),
    )


def is_base(identity: BaseIdentity) -> ColumnElement[bool]:
    return and_(col(KnownBase.name) == identity.name, col(KnownBase.digest) == identity.digest)


def serves_version(identity: BaseIdentity | None) -> ColumnElement[bool]:
    """Whether a version is bound to such a base model; without an identity, always."""
    if identity is None:
        return true()
    bound: ColumnElement[int] = func.coalesce(col(Version.base_id), 0)
    served: ColumnElement[bool] = bound.in_(served_bases(identity))
    return served


def is_named(text: str) -> ColumnElement[bool]:
    """Whether a base model is called `text`: by its whole name, or without its revision."""
    name = col(KnownBase.name)
    return or_(name == text, name.startswith(f"{text}@", autoescape=True))
