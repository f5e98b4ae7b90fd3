"""An identity provider of the program's own: access tokens that are signed with RS256, and its keys as JWKS.

`ISSUER=https://login.example uvicorn identity_provider:app`
"""

import asyncio
import os

import jwt
from starlette.applications import Starlette
from starlette.routing import Mount

from chatcore import Chat
from chatcore_asgi import Scope, conversations
from chatcore_demo import DEMO_ENDPOINT, DemoModel
from chatcore_sql import Database
from chatcore_starlette import lifespan

ISSUER, AUDIENCE = os.environ["ISSUER"], "chat"
LONGEST = 8192  # characters of a token: length before work
keys = jwt.PyJWKClient(f"{ISSUER}/.well-known/jwks.json", cache_keys=True, timeout=5)


def _subject(token: str) -> str | None:
    try:
        key = keys.get_signing_key_from_jwt(token)
        claims = jwt.decode(
            token,
            key,
            algorithms=["RS256"],
            issuer=ISSUER,
            audience=AUDIENCE,
            options={"require": ["exp", "iat", "sub"]},
        )
    except jwt.PyJWTError:
        return None
    return str(claims["sub"])


async def authenticate(scope: Scope) -> str | None:
    header = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token or len(token) > LONGEST:
        return None
    return await asyncio.to_thread(_subject, token)  # it may fetch keys


chat = Chat(store=Database("sqlite:///chat.db"), gateway=DemoModel(), model=DEMO_ENDPOINT)
routes = [Mount("/chat", app=conversations(chat, authenticate=authenticate))]
app = Starlette(lifespan=lifespan(chat), routes=routes)
