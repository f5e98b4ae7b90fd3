"""Files, and their bytes."""

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from chatcore_sql.migrations import operations as op

revision = "chatcore_0017"
down_revision = "chatcore_0016"

_MOMENT = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql")
_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "files",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("collection", sa.String(100), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("media_type", sa.String(100), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.LargeBinary(32).with_variant(mysql.BINARY(32), "mysql"), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["owners.id"], name="fk_files_user_id", ondelete="CASCADE"),
        sa.UniqueConstraint("user_id", "id", name="uq_files_user_id_id"),
        sa.UniqueConstraint("user_id", "digest", "collection", name="uq_files_user_id_digest_collection"),
        sqlite_autoincrement=True,
    )
    last_first = sa.text("id DESC NULLS LAST")
    op.create_index(
        "ix_files_user_id_id", "files", ["user_id", last_first if op.dialect().name == "postgresql" else "id"]
    )
    op.create_table(
        "file_parts",
        sa.Column("user_id", _ID, primary_key=True, autoincrement=False),
        sa.Column("file_id", _ID, primary_key=True, autoincrement=False),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("data", sa.LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql"), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id", "file_id"],
            ["files.user_id", "files.id"],
            name="fk_file_parts_user_id_file_id",
            ondelete="CASCADE",
        ),
    )


def downgrade() -> None:
    """Who has had files is counted anew with the next write."""
    op.execute("DELETE FROM {user_storage} WHERE user_id IN (SELECT user_id FROM {files})")
    op.drop_table("file_parts")
    op.drop_table("files")
