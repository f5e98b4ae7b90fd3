"""Why a model ended its answer.

Revision ID: chatcore_0009
Revises: chatcore_0008
"""

import sqlalchemy as sa

from chatcore_sql.migrations import operations as op

revision = "chatcore_0009"
down_revision = "chatcore_0008"


def upgrade() -> None:
    op.add_column("messages", sa.Column("finish_reason", sa.String(16)))


def downgrade() -> None:
    op.drop_column("messages", "finish_reason")
