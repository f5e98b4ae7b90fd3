"""What tells when a conversation was used.

Revision ID: chatcore_0012
Revises: chatcore_0011
"""

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from chatcore_sql.migrations import operations as op

revision = "chatcore_0012"
down_revision = "chatcore_0011"


_MOMENT = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql")


def upgrade() -> None:
    op.add_column("messages", sa.Column("ended_at", _MOMENT))
    op.add_column("conversations", sa.Column("used_before", _MOMENT))
    op.execute("UPDATE {conversations} SET used_before = updated_at")


def downgrade() -> None:
    op.drop_column("conversations", "used_before")
    op.drop_column("messages", "ended_at")
