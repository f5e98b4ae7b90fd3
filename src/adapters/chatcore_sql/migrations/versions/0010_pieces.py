"""Where the pieces of a reply end.

Revision ID: chatcore_0010
Revises: chatcore_0009
"""

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from chatcore_sql.migrations import operations as op

revision = "chatcore_0010"
down_revision = "chatcore_0009"

_CUTS = sa.LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql")


def upgrade() -> None:
    op.add_column("messages", sa.Column("cuts", _CUTS))
    op.add_column("reply_log", sa.Column("cuts", _CUTS))


def downgrade() -> None:
    op.drop_column("reply_log", "cuts")
    op.drop_column("messages", "cuts")
