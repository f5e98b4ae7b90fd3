"""Quart. `hypercorn quart_app:app`"""

from quart import Quart, Response, request

from chatcore import Chat
from chatcore.errors import Unauthenticated
from chatcore_demo import DEMO_ENDPOINT, DemoModel
from chatcore_quart import event_stream, open_with, router
from chatcore_sql import Database

chat = Chat(store=Database("sqlite:///chat.db"), gateway=DemoModel(), model=DEMO_ENDPOINT)
app = Quart(__name__)
open_with(app, chat)


async def user() -> str:
    if "X-User" not in request.headers:
        raise Unauthenticated("Send X-User.")
    return request.headers["X-User"]


@app.post("/ask")
async def ask() -> Response:
    me = await chat.of(await user())
    sent = await me.send((await request.json)["content"])
    return event_stream(await me.reply(sent.conversation_id))


app.register_blueprint(router(chat, user))
