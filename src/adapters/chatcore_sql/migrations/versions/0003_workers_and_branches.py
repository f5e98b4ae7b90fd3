"""Workers with their leases, who writes which reply, and the branches of a conversation.

Revision ID: chatcore_0003
Revises: chatcore_0002
"""

import sqlalchemy as sa

from chatcore_sql.migrations import operations as op

revision = "chatcore_0003"
down_revision = "chatcore_0002"

Id: sa.types.TypeEngine[int] = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

DROPPED = (
    ("ix_messages_user_id_conversation_id_id", "messages", ["user_id", "conversation_id", "id"]),
    ("ix_messages_user_id_parent_id_id", "messages", ["user_id", "parent_id", "id"]),
)
CREATED = (
    (
        "ix_messages_user_id_conversation_id_active_id",
        "messages",
        ["user_id", "conversation_id", "active", "id"],
    ),
    (
        "ix_messages_user_id_parent_id_conversation_id_id",
        "messages",
        ["user_id", "parent_id", "conversation_id", "id"],
    ),
    (
        "ix_conversations_writing_worker_id_stop_requested",
        "conversations",
        ["writing_worker_id", "stop_requested"],
    ),
)


def upgrade() -> None:
    op.create_table(
        "workers",
        sa.Column("id", Id, primary_key=True),
        sa.Column("renewed_at", sa.BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )
    op.add_column("conversations", sa.Column("writing_worker_id", Id))
    op.add_column("conversations", sa.Column("stop_requested", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("messages", sa.Column("active", sa.Boolean, nullable=False, server_default=sa.true()))
    # What a process of an earlier version was writing belongs to nobody now.
    op.execute("UPDATE {conversations} SET writing_worker_id = 0 WHERE writing_reply_id IS NOT NULL")
    op.execute("UPDATE {messages} SET parent_id = 0 WHERE parent_id IS NULL")
    replace_indexes(DROPPED, CREATED)


def downgrade() -> None:
    replace_indexes(CREATED, DROPPED)
    # There was one branch. A reply that is written in another one has nowhere to go.
    op.execute("DELETE FROM {reply_log} WHERE reply_id IN (SELECT id FROM {messages} WHERE NOT active)")
    op.execute(
        "UPDATE {conversations} SET writing_reply_id = NULL "
        "WHERE writing_reply_id IN (SELECT id FROM {messages} WHERE NOT active)"
    )
    op.execute("DELETE FROM {messages} WHERE NOT active")
    op.execute("UPDATE {messages} SET parent_id = NULL WHERE parent_id = 0")
    op.drop_column("messages", "active")
    op.drop_column("conversations", "stop_requested")
    op.drop_column("conversations", "writing_worker_id")
    op.drop_table("workers")


def replace_indexes(old: tuple[tuple[str, str, list[str]], ...], new: tuple[tuple[str, str, list[str]], ...]) -> None:
    """The new ones first: MySQL keeps an index that a foreign key needs."""
    for name, table, columns in new:
        op.create_index(name, table, columns)
    for name, table, _ in old:
        op.drop_index(name, table)
