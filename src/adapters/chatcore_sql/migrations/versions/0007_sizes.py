"""How long each message's texts are, so that a page can end before they are too many bytes; and on PostgreSQL indexes
in an order that leads to the owner's rows alone (see `chatcore_sql.pages`). And which accounts
are closed, what they own being deleted little by little.

Revision ID: chatcore_0007
Revises: chatcore_0005
"""

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from chatcore_sql.migrations import operations as op

revision = "chatcore_0007"
down_revision = "chatcore_0005"


COUNT = {
    "sqlite": "UPDATE {messages} SET content_bytes = length(CAST(content AS BLOB)), "
    "reasoning_bytes = COALESCE(length(CAST(reasoning AS BLOB)), 0)",
    "mysql": "UPDATE {messages} SET content_bytes = length(content), reasoning_bytes = COALESCE(length(reasoning), 0)",
    "postgresql": "UPDATE {messages} SET content_bytes = octet_length(content), "
    "reasoning_bytes = COALESCE(octet_length(reasoning), 0)",
}

LAST_FIRST = sa.text("id DESC NULLS LAST")
INDEXES = (
    ("ix_messages_user_id_id", "messages", ["user_id"]),
    ("ix_messages_user_id_conversation_id_active_id", "messages", ["user_id", "conversation_id", "active"]),
    ("ix_model_configs_user_id_id", "model_configs", ["user_id"]),
    # The last: of two indexes that look as good the newer one is taken, and siblings are to be found by this one.
    ("ix_messages_user_id_parent_id_conversation_id_id", "messages", ["user_id", "parent_id", "conversation_id"]),
)


def upgrade() -> None:
    op.add_column(
        "users", sa.Column("closed_at", sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql"))
    )
    op.create_index("ix_users_closed_at", "users", ["closed_at"])
    for column in ("content_bytes", "reasoning_bytes"):
        op.add_column("messages", sa.Column(column, sa.Integer))
    op.execute(COUNT[op.dialect().name])
    if op.dialect().name == "postgresql":
        for name, table, columns in INDEXES:
            op.drop_index(name, table)
            op.create_index(name, table, [*columns, LAST_FIRST])
        op.create_index("ix_conversations_user_id_id", "conversations", ["user_id", LAST_FIRST])


def downgrade() -> None:
    if op.dialect().name == "postgresql":
        op.drop_index("ix_conversations_user_id_id", "conversations")
        for name, table, columns in INDEXES:
            op.drop_index(name, table)
            op.create_index(name, table, [*columns, "id"])
    op.drop_column("messages", "reasoning_bytes")
    op.drop_column("messages", "content_bytes")
    op.execute("DELETE FROM {users} WHERE closed_at IS NOT NULL")
    op.drop_index("ix_users_closed_at", "users")
    op.drop_column("users", "closed_at")
