"""Owners, of which accounts are one kind; a message's depth in the tree; profiles as one value.

Revision ID: chatcore_0013
Revises: chatcore_0012
"""

import sqlalchemy as sa

from chatcore_sql.migrations import operations as op

revision = "chatcore_0013"
down_revision = "chatcore_0012"


def upgrade() -> None:
    _add_owners()
    _add_depths()
    _join_profiles()


def downgrade() -> None:
    _split_profiles()
    _drop_depths()
    _drop_owners()


def _add_owners() -> None: ...


def _drop_owners() -> None: ...


def _add_depths() -> None: ...


def _drop_depths() -> None: ...


_PROFILE = ("user_name", "country", "job", "phone", "init_cn_level")
_AS_JSON = {
    "sqlite": "json_patch('{}', json_object(%s))",
    "mysql": "JSON_MERGE_PATCH('{}', JSON_OBJECT(%s))",
    "postgresql": "CAST(json_strip_nulls(json_build_object(%s)) AS TEXT)",
}
"""Without the parts that are NULL."""
_FROM_JSON = {
    "sqlite": "json_extract(profile, '$.%s')",
    "mysql": "JSON_UNQUOTE(JSON_EXTRACT(profile, '$.%s'))",
    "postgresql": "CAST(profile AS JSON) ->> '%s'",
}


def _join_profiles() -> None:
    op.add_column("users", sa.Column("profile", sa.Text))
    joined = _AS_JSON[op.dialect().name] % ", ".join(f"'{name}', {name}" for name in _PROFILE)
    any_part = f"COALESCE({', '.join(_PROFILE)})"
    op.execute("UPDATE {users} SET profile = {joined} WHERE {any} IS NOT NULL", joined=joined, any=any_part)
    for name in _PROFILE:
        op.drop_column("users", name)


def _split_profiles() -> None:
    for name in _PROFILE:
        op.add_column("users", sa.Column(name, sa.String(200)))
    parts = ", ".join(f"{name} = {_FROM_JSON[op.dialect().name] % name}" for name in _PROFILE)
    op.execute("UPDATE {users} SET {parts} WHERE profile IS NOT NULL", parts=parts)
    op.drop_column("users", "profile")
