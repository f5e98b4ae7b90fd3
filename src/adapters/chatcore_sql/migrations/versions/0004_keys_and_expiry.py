"""Which encryption key has sealed an API key, and when sessions and refresh tokens expire.

Revision ID: chatcore_0004
Revises: chatcore_0003
"""

import sqlalchemy as sa

from chatcore_sql.migrations import operations as op

revision = "chatcore_0004"
down_revision = "chatcore_0003"

INDEXES = (
    ("ix_sessions_expires_at", "sessions", ["expires_at"]),
    ("ix_refresh_tokens_expires_at", "refresh_tokens", ["expires_at"]),
    ("ix_model_configs_sealed_with", "model_configs", ["sealed_with"]),
)


def upgrade() -> None:
    op.add_column("model_configs", sa.Column("sealed_with", sa.String(32), nullable=False, server_default="unknown"))
    op.execute("UPDATE {model_configs} SET sealed_with = '' WHERE sealed_key = ''")
    for name, table, columns in INDEXES:
        op.create_index(name, table, columns)


def downgrade() -> None:
    for name, table, _ in INDEXES:
        op.drop_index(name, table)
    op.drop_column("model_configs", "sealed_with")
