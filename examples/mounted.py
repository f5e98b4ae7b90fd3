"""chatcore's conversation routes, mounted under a path of another ASGI application. `uvicorn mounted:app`"""

from starlette.applications import Starlette
from starlette.routing import Mount

from chatcore import Chat
from chatcore_asgi import Scope, conversations
from chatcore_demo import DEMO_ENDPOINT, DemoModel
from chatcore_sql import Database
from chatcore_starlette import lifespan

chat = Chat(store=Database("sqlite:///chat.db"), gateway=DemoModel(), model=DEMO_ENDPOINT)


def authenticate(scope: Scope) -> str | None:
    headers: dict[bytes, bytes] = dict(scope["headers"])
    return headers[b"x-user"].decode() if b"x-user" in headers else None


routes = [Mount("/tools/chat", app=conversations(chat, authenticate=authenticate))]
app = Starlette(lifespan=lifespan(chat), routes=routes)
