"""chatcore's conversations as a bare ASGI application for any host, and what a host needs to open and close a chat.

`conversations(chat, authenticate=…)` has the routes of docs/wire.md under `/conversations`. Mount it anywhere.
"""

from chatcore_asgi.app import Response, conversations, conversations_of, respond
from chatcore_asgi.handlers import MAX_BODY_BYTES, MAX_MESSAGE_BYTES
from chatcore_asgi.identity import Authenticate, Found, User, identified, mine_of, user_of
from chatcore_asgi.sending import STREAM_HEADERS, send_events, send_problem
from chatcore_asgi.shutdown import closing_readers, lifespan, opening
from chatcore_asgi.types import ASGIApp, Receive, Scope, Send

__all__ = [
    "MAX_BODY_BYTES",
    "MAX_MESSAGE_BYTES",
    "STREAM_HEADERS",
    "ASGIApp",
    "Authenticate",
    "Found",
    "Receive",
    "Response",
    "Scope",
    "Send",
    "User",
    "closing_readers",
    "conversations",
    "conversations_of",
    "identified",
    "lifespan",
    "mine_of",
    "opening",
    "respond",
    "send_events",
    "send_problem",
    "user_of",
]
