"""Litestar: a plugin. `uvicorn litestar_plugin:app`"""

from litestar import Litestar, post

from chatcore import Chat
from chatcore.errors import Unauthenticated
from chatcore_demo import DEMO_ENDPOINT, DemoModel
from chatcore_litestar import ChatPlugin, Connection, EventStream, Me
from chatcore_sql import Database

chat = Chat(store=Database("sqlite:///chat.db"), gateway=DemoModel(), model=DEMO_ENDPOINT)


async def user(connection: Connection) -> str:
    if "x-user" not in connection.headers:
        raise Unauthenticated("Send X-User.")
    return connection.headers["x-user"]


@post("/ask", status_code=200)
async def ask(data: dict[str, str], me: Me) -> EventStream:
    sent = await me.send(data["content"])
    return EventStream(await me.reply(sent.conversation_id))


app = Litestar([ask], plugins=[ChatPlugin(chat, user=user)])
