"""Owners, of which accounts are one kind; the depth and metadata of messages; profiles as one value.

Revision ID: chatcore_0013
Revises: chatcore_0012
"""

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from chatcore_sql.migrations import operations as op
from chatcore_sql.unreachable import UnfitError

revision = "chatcore_0013"
down_revision = "chatcore_0012"


def upgrade() -> None:
    _add_owners()
    _add_depths()
    _join_profiles()
    _extend_messages()


def downgrade() -> None:
    _check_owners()
    _cut_messages()
    _split_profiles()
    _drop_depths()
    _drop_owners()


_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_MOMENT = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql")
_OWNED = ("model_configs", "user_storage", "conversations")
_OF_ACCOUNT = "CONSTRAINT {fk_users_id} FOREIGN KEY(id) REFERENCES {owners} (id) ON DELETE CASCADE, "
_BEFORE = "CONSTRAINT {uq_users_username_key}"
_NUMBER_FURTHER = (
    "SET @next = 1 /*!80000 , SESSION information_schema_stats_expiry = 0 */",
    (
        "SET @next = (SELECT COALESCE(auto_increment, 1) FROM information_schema.tables "
        "WHERE table_schema = DATABASE() AND table_name = TRIM(BOTH '`' FROM '{old}'))"
    ),
    "SET @numbering = CONCAT('ALTER TABLE {new} AUTO_INCREMENT = ', @next)",
    "PREPARE numbering FROM @numbering",
    "EXECUTE numbering",
    "DEALLOCATE PREPARE numbering",
)
_NUMBER_OWNERS = {
    "sqlite": (
        "DELETE FROM sqlite_sequence WHERE name = trim('{owners}', '\"')",
        (
            "INSERT INTO sqlite_sequence (name, seq) SELECT trim('{owners}', '\"'), seq FROM sqlite_sequence "
            "WHERE name = trim('{users}', '\"')"
        ),
    ),
    "mysql": (
        *(each.replace("{old}", "{users}").replace("{new}", "{owners}") for each in _NUMBER_FURTHER),
        "SET foreign_key_checks = 0",
        "ALTER TABLE {users} MODIFY id BIGINT NOT NULL",
        "SET foreign_key_checks = 1",
    ),
    "postgresql": (
        "SELECT setval('{owners_id_seq}', last_value, is_called) FROM {users_id_seq}",
        "ALTER TABLE {users} ALTER COLUMN id DROP DEFAULT",
    ),
}
"""Ids go on where those of users ended. A process of an earlier version can add no user then: the id might be another
owner's."""
_NUMBER_USERS = {
    "sqlite": (
        "DELETE FROM sqlite_sequence WHERE name = trim('{users}', '\"')",
        (
            "INSERT INTO sqlite_sequence (name, seq) SELECT trim('{users}', '\"'), seq FROM sqlite_sequence "
            "WHERE name = trim('{owners}', '\"')"
        ),
    ),
    "mysql": (
        "SET foreign_key_checks = 0",
        "ALTER TABLE {users} MODIFY id BIGINT NOT NULL AUTO_INCREMENT",
        "SET foreign_key_checks = 1",
        *(each.replace("{old}", "{owners}").replace("{new}", "{users}") for each in _NUMBER_FURTHER),
    ),
    "postgresql": (
        "SELECT setval('{users_id_seq}', last_value, is_called) FROM {owners_id_seq}",
        "ALTER TABLE {users} ALTER COLUMN id SET DEFAULT nextval('{users_id_seq}')",
    ),
}


def _add_owners() -> None:
    op.create_table(
        "owners",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("tenant", sa.String(255)),
        sa.Column("external_id", sa.String(255)),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("closed_at", _MOMENT),
        sa.UniqueConstraint("tenant", "external_id", name="uq_owners_tenant_external_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_owners_closed_at", "owners", ["closed_at"])
    op.execute("INSERT INTO {owners} (id, created_at, closed_at) SELECT id, created_at, closed_at FROM {users}")
    _refer_to("owners", instead_of="users")
    if op.dialect().name == "sqlite":
        op.rewrite("users", _BEFORE, _OF_ACCOUNT + _BEFORE)
    else:
        op.add_reference("users", "id", "owners")
    for statement in _NUMBER_OWNERS[op.dialect().name]:
        op.execute(statement)
    op.execute("DELETE FROM {users} WHERE closed_at IS NOT NULL")
    op.drop_index("ix_users_closed_at", "users")
    op.drop_column("users", "closed_at")


def _check_owners() -> None:
    if op.has_rows("SELECT id FROM {owners} WHERE external_id IS NOT NULL"):
        raise UnfitError("has owners that are no accounts, which earlier versions do not know: forget them first")


def _drop_owners() -> None:
    op.execute("DELETE FROM {reply_log} WHERE user_id IN (SELECT id FROM {owners} WHERE closed_at IS NOT NULL)")
    op.execute("DELETE FROM {owners} WHERE closed_at IS NOT NULL")
    op.add_column("users", sa.Column("closed_at", _MOMENT))
    op.create_index("ix_users_closed_at", "users", ["closed_at"])
    for statement in _NUMBER_USERS[op.dialect().name]:
        op.execute(statement)
    if op.dialect().name == "sqlite":
        op.rewrite("users", _OF_ACCOUNT, "")
    else:
        op.drop_reference("users", "id")
    _refer_to("users", instead_of="owners")
    op.drop_table("owners")


def _refer_to(new: str, *, instead_of: str) -> None:
    for table in _OWNED:
        if op.dialect().name == "sqlite":
            op.rewrite(table, f"REFERENCES {{{instead_of}}} (id)", f"REFERENCES {{{new}}} (id)")
        else:
            op.drop_reference(table, "user_id")
            op.add_reference(table, "user_id", new)


_UNKNOWN_DEPTH = 2**31 - 1
_BRANCHES = ("user_id", "conversation_id", "active")
_BY_ID, _BY_DEPTH = (f"ix_messages_user_id_conversation_id_active_{last}" for last in ("id", "depth_id"))
_SIBLINGS = "ix_messages_user_id_parent_id_conversation_id_id"
_LAST_FIRST = sa.text("id DESC NULLS LAST")
_TREE = """
    WITH RECURSIVE tree (id, user_id, depth) AS (
        SELECT id, user_id, 0 FROM {messages} WHERE parent_id = 0
        UNION ALL
        SELECT below.id, below.user_id, tree.depth + 1
        FROM tree {join} {messages} AS below {index} ON below.user_id = tree.user_id AND below.parent_id = tree.id
    )
    SELECT id, depth FROM tree
"""
# As deep as a conversation is, and each step by the index of siblings, whatever the statistics say.
_MEASURE = {
    "sqlite": """
        CREATE TEMPORARY TABLE depths (id INTEGER PRIMARY KEY, depth INTEGER NOT NULL);
        INSERT INTO depths {tree};
        UPDATE {messages} SET depth = (SELECT depth FROM depths WHERE depths.id = {messages}.id)
        WHERE id IN (SELECT id FROM depths);
        DROP TABLE depths""",
    "mysql": """
        SET SESSION /*!80000 cte_max_recursion_depth */ /*M! max_recursive_iterations */ = 4294967295;
        UPDATE {messages} AS message JOIN ({tree}) AS found ON found.id = message.id SET message.depth = found.depth""",
    "postgresql": """
        SET LOCAL enable_hashjoin = off;
        SET LOCAL enable_mergejoin = off;
        SET LOCAL enable_seqscan = off;
        UPDATE {messages} AS message SET depth = found.depth FROM ({tree}) AS found WHERE found.id = message.id;
        SET LOCAL enable_hashjoin = DEFAULT;
        SET LOCAL enable_mergejoin = DEFAULT;
        SET LOCAL enable_seqscan = DEFAULT""",
}
_JOIN = {"sqlite": "CROSS JOIN", "mysql": "STRAIGHT_JOIN", "postgresql": "JOIN"}
_INDEX = {"mysql": f"FORCE INDEX ({_SIBLINGS})"}


def _add_depths() -> None:
    op.add_column("messages", sa.Column("depth", sa.Integer, nullable=False, server_default=str(_UNKNOWN_DEPTH)))
    kind = op.dialect().name
    for statement in _MEASURE[kind].replace("{tree}", _TREE).split(";"):
        op.execute(statement, join=_JOIN[kind], index=_INDEX.get(kind, ""))
    op.create_index(_BY_DEPTH, "messages", [*_BRANCHES, "depth", "id"])
    op.drop_index(_BY_ID, "messages")
    _renew_siblings()


def _drop_depths() -> None:
    op.create_index(_BY_ID, "messages", [*_BRANCHES, _LAST_FIRST if op.dialect().name == "postgresql" else "id"])
    op.drop_index(_BY_DEPTH, "messages")
    _renew_siblings()
    op.drop_column("messages", "depth")


def _renew_siblings() -> None:
    """Of two indexes that look as good PostgreSQL takes the newer one, which has to be this one for siblings."""
    if op.dialect().name == "postgresql":
        op.drop_index(_SIBLINGS, "messages")
        op.create_index(_SIBLINGS, "messages", ["user_id", "parent_id", "conversation_id", _LAST_FIRST])


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


def _extend_messages() -> None:
    op.add_column("messages", sa.Column("estimated", sa.Boolean))
    op.add_column("messages", sa.Column("metadata", sa.Text))


def _cut_messages() -> None:
    op.drop_column("messages", "metadata")
    op.drop_column("messages", "estimated")


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
