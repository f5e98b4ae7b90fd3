"""Accounts, sessions, model endpoints, conversations with their messages, and the log of replies being written.

Revision ID: chatcore_0001
Revises:
"""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from chatcore_sql.migrations import operations as op

revision = "chatcore_0001"
down_revision = None

Id: sa.types.TypeEngine[int] = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Moment: sa.types.TypeEngine[datetime] = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql")
LongText: sa.types.TypeEngine[str] = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql")
Digest: sa.types.TypeEngine[bytes] = sa.LargeBinary(32).with_variant(mysql.BINARY(32), "mysql")


def upgrade() -> None:
    accounts()
    sign_ins()
    talk()


def downgrade() -> None:
    for table in (
        "reply_log",
        "messages",
        "conversations",
        "model_configs",
        "refresh_tokens",
        "sessions",
        "user_roles",
        "roles",
        "users",
    ):
        op.drop_table(table)


def accounts() -> None:
    op.create_table(
        "users",
        sa.Column("id", Id, primary_key=True),
        sa.Column("username", sa.String(64), nullable=False),
        sa.Column("username_key", sa.String(64), nullable=False),
        sa.Column("email", sa.String(254)),
        sa.Column("email_key", sa.String(254)),
        sa.Column("password_hash", sa.String(255), nullable=False),
        sa.Column("is_active", sa.Boolean, nullable=False),
        sa.Column("user_name", sa.String(200)),
        sa.Column("country", sa.String(200)),
        sa.Column("job", sa.String(200)),
        sa.Column("phone", sa.String(200)),
        sa.Column("init_cn_level", sa.String(200)),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("updated_at", Moment, nullable=False),
        sa.UniqueConstraint("username_key", name="uq_users_username_key"),
        sa.UniqueConstraint("email_key", name="uq_users_email_key"),
        sqlite_autoincrement=True,
    )
    roles = op.create_table(
        "roles",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("description", sa.String(200), nullable=False),
    )
    op.bulk_insert(
        roles,
        [
            {"name": "user", "description": "Holds conversations of their own."},
            {"name": "admin", "description": "Administers all accounts."},
        ],
    )
    op.create_table(
        "user_roles",
        sa.Column("user_id", Id, primary_key=True),
        sa.Column("role", sa.String(64), primary_key=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_user_roles_user_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["role"], ["roles.name"], name="fk_user_roles_role", ondelete="CASCADE"),
        sa.Index("ix_user_roles_role", "role"),
    )


def sign_ins() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("user_id", Id, nullable=False),
        sa.Column("login_time", Moment, nullable=False),
        sa.Column("authenticated_at", Moment, nullable=False),
        sa.Column("last_used_at", Moment, nullable=False),
        sa.Column("expires_at", Moment, nullable=False),
        sa.Column("logout_time", Moment),
        sa.Column("user_agent", sa.String(255), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.UniqueConstraint("user_id", "id", name="uq_sessions_user_id_id"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_sessions_user_id", ondelete="CASCADE"),
    )
    op.create_table(
        "refresh_tokens",
        sa.Column("digest", Digest, primary_key=True),
        sa.Column("session_id", sa.String(64), nullable=False),
        sa.Column("user_id", Id, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("expires_at", Moment, nullable=False),
        sa.Column("used_at", Moment),
        sa.ForeignKeyConstraint(
            ["user_id", "session_id"],
            ["sessions.user_id", "sessions.id"],
            name="fk_refresh_tokens_user_id_session_id",
            ondelete="CASCADE",
        ),
        sa.Index("ix_refresh_tokens_user_id_session_id", "user_id", "session_id"),
    )


def talk() -> None:
    op.create_table(
        "model_configs",
        sa.Column("id", Id, primary_key=True),
        sa.Column("user_id", Id, nullable=False),
        sa.Column("model_url", sa.String(2048), nullable=False),
        sa.Column("model_name", sa.String(200), nullable=False),
        sa.Column("sealed_key", sa.Text, nullable=False),
        sa.Column("api_key_hint", sa.String(4), nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("updated_at", Moment, nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_model_configs_user_id", ondelete="CASCADE"),
        sa.Index("ix_model_configs_user_id_id", "user_id", "id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "conversations",
        sa.Column("id", Id, primary_key=True),
        sa.Column("user_id", Id, nullable=False),
        sa.Column("title", sa.String(200), nullable=False),
        sa.Column("config_id", Id),
        sa.Column("writing_reply_id", Id),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("updated_at", Moment, nullable=False),
        sa.UniqueConstraint("user_id", "id", name="uq_conversations_user_id_id"),
        sa.UniqueConstraint("writing_reply_id", name="uq_conversations_writing_reply_id"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_conversations_user_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["config_id"], ["model_configs.id"], name="fk_conversations_config_id", ondelete="SET NULL"
        ),
        sa.Index("ix_conversations_config_id", "config_id"),
        sa.Index("ix_conversations_user_id_updated_at_id", "user_id", "updated_at", "id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "messages",
        sa.Column("id", Id, primary_key=True),
        sa.Column("user_id", Id, nullable=False),
        sa.Column("conversation_id", Id, nullable=False),
        sa.Column("parent_id", Id),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("content", LongText, nullable=False),
        sa.Column("reasoning", LongText),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("model", sa.String(200)),
        sa.Column("prompt_tokens", sa.Integer),
        sa.Column("completion_tokens", sa.Integer),
        sa.Column("total_tokens", sa.Integer),
        sa.Column("error_code", sa.String(64)),
        sa.Column("error_detail", sa.Text),
        sa.Column("created_at", Moment, nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id", "conversation_id"],
            ["conversations.user_id", "conversations.id"],
            name="fk_messages_user_id_conversation_id",
            ondelete="CASCADE",
        ),
        sa.Index("ix_messages_user_id_conversation_id_id", "user_id", "conversation_id", "id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "reply_log",
        sa.Column("user_id", Id, autoincrement=False, primary_key=True),
        sa.Column("reply_id", Id, autoincrement=False, primary_key=True),
        sa.Column("text_offset", sa.Integer, autoincrement=False, primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("text", LongText, nullable=False),
    )
