"""Flask, on threads. `flask --app flask_app run`, or gunicorn with threads"""

from flask import Flask, Response, request

from chatcore import Chat, SyncChat
from chatcore.errors import Unauthenticated
from chatcore_demo import DEMO_ENDPOINT, DemoModel
from chatcore_flask import event_stream, open_with, router
from chatcore_sql import Database

chat = SyncChat(Chat(store=Database("sqlite:///chat.db"), gateway=DemoModel(), model=DEMO_ENDPOINT))
app = Flask(__name__)
open_with(app, chat)


def user() -> str:
    if "X-User" not in request.headers:
        raise Unauthenticated("Send X-User.")
    return request.headers["X-User"]


@app.post("/ask")
def ask() -> Response:
    me = chat.of(user())
    sent = me.send(request.json["content"])
    return event_stream(me.reply(sent.conversation_id))


app.register_blueprint(router(chat, user))
