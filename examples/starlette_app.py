"""Starlette: the conversation routes for the program's own users. `uvicorn starlette_app:app`"""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from chatcore import Chat, Mine
from chatcore.errors import Unauthenticated
from chatcore_demo import DEMO_ENDPOINT, DemoModel
from chatcore_sql import Database
from chatcore_starlette import EventStream, lifespan, problems, router

chat = Chat(store=Database("sqlite:///chat.db"), gateway=DemoModel(), model=DEMO_ENDPOINT)


async def me(request: Request) -> Mine:
    if "x-user" not in request.headers:
        raise Unauthenticated("Send X-User.")
    return await chat.of(request.headers["x-user"])


async def ask(request: Request) -> EventStream:
    mine = await me(request)
    sent = await mine.send((await request.json())["content"])
    return EventStream(await mine.reply(sent.conversation_id))


routes = [Route("/ask", ask, methods=["POST"]), router("/", me)]
app = Starlette(lifespan=lifespan(chat), exception_handlers=problems, routes=routes)
