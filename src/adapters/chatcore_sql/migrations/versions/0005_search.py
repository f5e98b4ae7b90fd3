"""One's own messages by their order, for the search.

Revision ID: 0005
Revises: 0004
"""

from alembic import op

revision = "0005"
down_revision = "0004"

INDEX = "ix_messages_user_id_id"


def upgrade() -> None:
    op.create_index(INDEX, "messages", ["user_id", "id"])


def downgrade() -> None:
    op.drop_index(INDEX, "messages")
