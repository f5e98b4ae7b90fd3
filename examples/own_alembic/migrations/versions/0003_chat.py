"""chatcore's tables, and what the project does after them in the same migration."""

from alembic import op

from chatcore_sql.alembic import downgrade_op, upgrade_op

revision, down_revision = "0003", "0002"


def upgrade() -> None:
    upgrade_op("chatcore_0017", prefix="chat_")
    op.execute("INSERT INTO users (id, name) VALUES (1, 'alice')")


def downgrade() -> None:
    op.execute("DELETE FROM users WHERE id = 1")
    downgrade_op(prefix="chat_")
