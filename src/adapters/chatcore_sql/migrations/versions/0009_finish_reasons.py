"""Why a model ended its answer.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("messages", sa.Column("finish_reason", sa.String(16)))


def downgrade() -> None:
    op.drop_column("messages", "finish_reason")
