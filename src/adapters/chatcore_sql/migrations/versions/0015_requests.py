"""What clients of other protocols need: their names for conversations, and what they asked for.

The names and the metadata of conversations, and `requests`.
"""

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from chatcore_sql.migrations import operations as op

revision = "chatcore_0015"
down_revision = "chatcore_0014"

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_MOMENT = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql")
_LONG_TEXT = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql")
_NAMED = "uq_conversations_user_id_client_id"


def upgrade() -> None:
    op.add_column("conversations", sa.Column("client_id", sa.String(255)))
    op.add_column("conversations", sa.Column("metadata", sa.Text))
    op.create_index(_NAMED, "conversations", ["user_id", "client_id"], unique=True)
    op.create_table(
        "requests",
        sa.Column("user_id", _ID, primary_key=True, autoincrement=False),
        sa.Column("reply_id", _ID, primary_key=True, autoincrement=False),
        sa.Column("conversation_id", _ID, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("body", _LONG_TEXT, nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id", "conversation_id"],
            ["conversations.user_id", "conversations.id"],
            name="fk_requests_user_id_conversation_id",
            ondelete="CASCADE",
        ),
        sa.Index("ix_requests_user_id_conversation_id", "user_id", "conversation_id"),
        sa.Index("ix_requests_user_id_kind_reply_id", "user_id", "kind", "reply_id"),
    )


def downgrade() -> None:
    """Who has had any of that is counted anew with the next write."""
    op.execute("DELETE FROM {user_storage} WHERE user_id IN (SELECT user_id FROM {requests})")
    op.execute(
        "DELETE FROM {user_storage} WHERE user_id IN (SELECT user_id FROM {conversations} WHERE metadata IS NOT NULL)"
    )
    op.drop_table("requests")
    op.drop_index(_NAMED, "conversations")
    op.drop_column("conversations", "metadata")
    op.drop_column("conversations", "client_id")
