"""Images of messages."""

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from chatcore_sql.migrations import operations as op

revision = "chatcore_0016"
down_revision = "chatcore_0015"

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.add_column("messages", sa.Column("images", sa.SmallInteger))
    op.create_table(
        "message_images",
        sa.Column("user_id", _ID, primary_key=True, autoincrement=False),
        sa.Column("message_id", _ID, primary_key=True, autoincrement=False),
        sa.Column("number", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("conversation_id", _ID, nullable=False),
        sa.Column("media_type", sa.String(32), nullable=False),
        sa.Column("detail", sa.String(16)),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("data", sa.LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql"), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id", "conversation_id"],
            ["conversations.user_id", "conversations.id"],
            name="fk_message_images_user_id_conversation_id",
            ondelete="CASCADE",
        ),
        sa.Index("ix_message_images_user_id_conversation_id", "user_id", "conversation_id"),
    )


def downgrade() -> None:
    """Who has had images is counted anew with the next write."""
    op.execute("DELETE FROM {user_storage} WHERE user_id IN (SELECT user_id FROM {message_images})")
    op.drop_table("message_images")
    op.drop_column("messages", "images")
