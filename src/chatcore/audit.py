"""The audit log: changes of accounts, sessions and keys, one event each, on the logger `chatcore.audit`.

An event is the message of its log record (`record.msg`), so that any handler of the standard library can read its
fields, or write it as a line of text. It never has a password, a token or a key, and no field can forge another field
or line: unprintable characters are escaped, and texts are cut.

    account_created    user_id session_id (None: not signed in) address user_agent; by the operator: user_id
    sign_in            user_id session_id address user_agent
    sign_in_failed     user_id (None: unknown account) address user_agent reason
    sign_out           user_id session_id
    password_failed    user_id session_id           a signed-in user gave a wrong current password
    refresh            user_id session_id
    refresh_reused     user_id session_id           the session was ended
    session_revoked    user_id session_id by_session_id
    sessions_revoked   user_id by_session_id        all others; by an administrator: user_id, API keys too
    key_created        user_id key_id scopes by_session_id
    key_revoked        user_id key_id by_session_id
    username_changed   user_id session_id username
    email_changed      user_id session_id
    password_changed   user_id session_id
    account_deleted    user_id session_id; by an administrator: user_id
    account_imported   user_id roles
    owner_forgotten    user_id                      by the embedding program
    data_exported      user_id session_id           the export has begun
    data_imported      user_id conversations messages
    user_disabled      user_id                      all their sessions were ended too
    user_enabled       user_id
    model_key_refused  user_id model_host
    relayed            user_id model_host path status sent received upstream_id     a call that passed through; bytes
    role_changed       user_id, and the role that was granted or revoked
    rate_limited       rule, and user_id or address

The edge adds the administrator: over HTTP every line logged during an administrator's request has `by_user_id`.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass

LONGEST = 200
"""Maximum characters of a text."""

_log = logging.getLogger("chatcore.audit")


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """As text: the name and `field=value`, each value as JSON."""

    name: str
    fields: Mapping[str, int | str | None]

    def __str__(self) -> str:
        return " ".join((self.name, *(f"{name}={_json(value)}" for name, value in self.fields.items())))


def record(name: str, **fields: object) -> None:
    """Record an event, after its change is stored."""
    tame = {
        field: value if value is None or isinstance(value, int) else _tame(str(value))
        for field, value in fields.items()
    }
    _log.info(AuditEvent(name, tame))


def _tame(text: str) -> str:
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text[:LONGEST])


def _json(value: int | str | None) -> str:
    return json.dumps(value, ensure_ascii=False)
