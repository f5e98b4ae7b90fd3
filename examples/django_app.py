"""Django under ASGI, in one file. `uvicorn django_app:application`"""

import json

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import include, path

from chatcore import Chat
from chatcore.errors import Unauthenticated
from chatcore_demo import DEMO_ENDPOINT, DemoModel
from chatcore_django import event_stream, opening, urls
from chatcore_sql import Database

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], MIDDLEWARE=["chatcore_django.Problems"])
chat = Chat(store=Database("sqlite:///chat.db"), gateway=DemoModel(), model=DEMO_ENDPOINT)


async def user(request: HttpRequest) -> str:
    if "X-User" not in request.headers:
        raise Unauthenticated("Send X-User.")
    return request.headers["X-User"]


async def ask(request: HttpRequest) -> HttpResponseBase:
    me = await chat.of(await user(request))
    sent = await me.send(json.loads(request.body)["content"])
    return event_stream(await me.reply(sent.conversation_id))


urlpatterns = [path("ask", ask), path("", include(urls(chat, user)))]
application = opening(chat, get_asgi_application())
