"""Titles that are the user's own, messages sent under an idempotency key, and what lists sessions and finds replies.

Revision ID: chatcore_0002
Revises: chatcore_0001
"""

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from chatcore_sql.migrations import operations as op

revision = "chatcore_0002"
down_revision = "chatcore_0001"

Digest: sa.types.TypeEngine[bytes] = sa.LargeBinary(32).with_variant(mysql.BINARY(32), "mysql")

INDEXES = (
    ("ix_sessions_user_id_login_time_id", "sessions", ["user_id", "login_time", "id"], False),
    ("ix_messages_user_id_parent_id_id", "messages", ["user_id", "parent_id", "id"], False),
    (
        "uq_messages_user_id_idempotency_key_conversation_id",
        "messages",
        ["user_id", "idempotency_key", "conversation_id"],
        True,
    ),
)


def upgrade() -> None:
    op.add_column("conversations", sa.Column("titled_by_user", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("messages", sa.Column("idempotency_key", sa.String(255)))
    op.add_column("messages", sa.Column("idempotency_digest", Digest))
    for name, table, columns, unique in INDEXES:
        op.create_index(name, table, columns, unique=unique)
    # Who gave a title is not known any more; it may have been the user.
    op.execute("UPDATE {conversations} SET titled_by_user = TRUE WHERE title <> ''")


def downgrade() -> None:
    for name, table, _, _ in reversed(INDEXES):
        op.drop_index(name, table)
    op.drop_column("messages", "idempotency_digest")
    op.drop_column("messages", "idempotency_key")
    op.drop_column("conversations", "titled_by_user")
