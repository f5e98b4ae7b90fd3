"""Conversations that are deleted little by little.

Revision ID: chatcore_0011
Revises: chatcore_0010
"""

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from chatcore_sql.migrations import operations as op

revision = "chatcore_0011"
down_revision = "chatcore_0010"


def upgrade() -> None:
    op.add_column(
        "conversations", sa.Column("closed_at", sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql"))
    )
    op.create_index("ix_conversations_closed_at", "conversations", ["closed_at"])


def downgrade() -> None:
    op.execute("DELETE FROM {conversations} WHERE closed_at IS NOT NULL")
    op.drop_index("ix_conversations_closed_at", "conversations")
    op.drop_column("conversations", "closed_at")
