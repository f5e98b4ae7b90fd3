"""Personal API keys: sessions that a key opens.

Revision ID: chatcore_0014
Revises: chatcore_0013
"""

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from chatcore_sql.migrations import operations as op

revision = "chatcore_0014"
down_revision = "chatcore_0013"

COLUMNS = (
    ("key_name", sa.String(100)),
    ("key_hint", sa.String(4)),
    ("key_scopes", sa.String(64)),
    ("key_digest", sa.LargeBinary(32).with_variant(mysql.BINARY(32), "mysql")),
)
LISTED = ["user_id", "login_time", "id"]
LISTED_BY_KIND = ["user_id", "is_key", "login_time", "id"]


def upgrade() -> None:
    op.add_column("sessions", sa.Column("is_key", sa.Boolean, nullable=False, server_default=sa.false()))
    for name, kind in COLUMNS:
        op.add_column("sessions", sa.Column(name, kind))
    op.create_index("uq_sessions_key_digest", "sessions", ["key_digest"], unique=True)
    op.create_index("ix_sessions_user_id_is_key_login_time_id", "sessions", LISTED_BY_KIND)
    op.drop_index("ix_sessions_user_id_login_time_id", "sessions")


def downgrade() -> None:
    op.execute("DELETE FROM {sessions} WHERE is_key = TRUE")
    op.create_index("ix_sessions_user_id_login_time_id", "sessions", LISTED)
    op.drop_index("ix_sessions_user_id_is_key_login_time_id", "sessions")
    op.drop_index("uq_sessions_key_digest", "sessions")
    for name, _ in reversed(COLUMNS):
        op.drop_column("sessions", name)
    op.drop_column("sessions", "is_key")
