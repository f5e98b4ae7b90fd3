"""Owners, of which accounts are one kind; a message's depth in the tree; profiles as one value.

Revision ID: chatcore_0013
Revises: chatcore_0012
"""

revision = "chatcore_0013"
down_revision = "chatcore_0012"


def upgrade() -> None:
    _add_owners()
    _add_depths()
    _join_profiles()


def downgrade() -> None:
    _split_profiles()
    _drop_depths()
    _drop_owners()


def _add_owners() -> None: ...


def _drop_owners() -> None: ...


def _add_depths() -> None: ...


def _drop_depths() -> None: ...


def _join_profiles() -> None: ...


def _split_profiles() -> None: ...
