"""How much each user has stored.

Revision ID: chatcore_0008
Revises: chatcore_0007
"""

import sqlalchemy as sa

from chatcore_sql.migrations import operations as op

revision = "chatcore_0008"
down_revision = "chatcore_0007"

OCTETS = {"sqlite": "length(CAST({} AS BLOB))", "mysql": "octet_length({})", "postgresql": "octet_length({})"}
COUNT = """
INSERT INTO {user_storage} (user_id, stored_bytes)
SELECT users.id, COALESCE(begun.size, 0) + COALESCE(said.size, 0)
FROM {users} AS users
LEFT JOIN (
    SELECT user_id, 1024 * COUNT(*) AS size FROM {conversations} GROUP BY user_id
) begun ON begun.user_id = users.id
LEFT JOIN (
    SELECT user_id, SUM(256 + {content} + COALESCE({reasoning}, 0) + COALESCE({error_detail}, 0)) AS size
    FROM {messages} GROUP BY user_id
) said ON said.user_id = users.id
"""


def upgrade() -> None:
    op.create_table(
        "user_storage",
        sa.Column("user_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
        sa.Column("stored_bytes", sa.BigInteger, nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_user_storage_user_id", ondelete="CASCADE"),
    )
    octets = OCTETS[op.dialect().name]
    texts = ("content", "reasoning", "error_detail")
    op.execute(COUNT, **{text: octets.format(text) for text in texts})


def downgrade() -> None:
    op.drop_table("user_storage")
