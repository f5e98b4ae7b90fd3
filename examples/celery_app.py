"""Celery: a task answers for a user; others read along, and the answer is stored even if the broker forgets it.

`celery --app celery_app worker --pool threads`
"""

# pyright: basic, reportMissingTypeStubs=false

import os
from typing import Any

from celery import Celery
from celery.signals import worker_init, worker_shutdown

from chatcore import Chat, SyncChat
from chatcore_demo import DEMO_ENDPOINT, DemoModel
from chatcore_sql import Database

app = Celery("talk", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])
chat = SyncChat(Chat(store=Database(os.environ["DATABASE_URL"]), gateway=DemoModel(), model=DEMO_ENDPOINT))


@worker_init.connect
def _open(**_: Any) -> None:
    chat.__enter__()  # in the process that runs the tasks, never before a fork


@worker_shutdown.connect
def _close(**_: Any) -> None:
    chat.__exit__(None, None, None)


@app.task
def answer(user: str, question: str) -> str:
    me = chat.of(user)
    sent = me.send(question)
    return me.reply(sent.conversation_id).ended().content
