"""FastAPI: stream a reply, resume it, stop it. `uvicorn fastapi_app:app`"""

from typing import Annotated

from fastapi import Body, FastAPI, Header

from chatcore import Chat, Mine
from chatcore_demo import DEMO_ENDPOINT, DemoModel
from chatcore_fastapi import EventStream, lifespan, mine, problems
from chatcore_sql import Database

chat = Chat(store=Database("sqlite:///chat.db"), gateway=DemoModel(), model=DEMO_ENDPOINT)
app = FastAPI(lifespan=lifespan(chat), exception_handlers=problems)


async def current_user(x_user: Annotated[str, Header()]) -> str:
    return x_user  # the program's own way of finding out who asks


Me = Annotated[Mine, mine(chat, current_user)]


@app.post("/ask")
async def ask(content: Annotated[str, Body(embed=True)], me: Me) -> EventStream:
    return EventStream(await me.reply((await me.send(content)).conversation_id))


@app.get("/replies/{conversation}")
async def resume(conversation: int, me: Me, last_event_id: Annotated[str | None, Header()] = None) -> EventStream:
    return EventStream(await me.resume(conversation, last_event_id))


@app.post("/replies/{conversation}/stop")
async def stop(conversation: int, me: Me) -> dict[str, str]:
    return {"content": (await me.stop(conversation)).content}
