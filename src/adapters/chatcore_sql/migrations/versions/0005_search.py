"""One's own messages by their order, for the search.

Revision ID: chatcore_0005
Revises: chatcore_0004
"""

from chatcore_sql.migrations import operations as op

revision = "chatcore_0005"
down_revision = "chatcore_0004"

INDEX = "ix_messages_user_id_id"


def upgrade() -> None:
    op.create_index(INDEX, "messages", ["user_id", "id"])


def downgrade() -> None:
    op.drop_index(INDEX, "messages")
