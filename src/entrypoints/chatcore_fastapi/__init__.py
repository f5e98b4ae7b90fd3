"""chatcore in a FastAPI application: `FastAPI(lifespan=lifespan(chat), exception_handlers=problems)`."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from starlette.types import Receive, Scope, Send

from chatcore import Chat, Mine
from chatcore_asgi import conversations_of, mine_of
from chatcore_starlette import EventStream, lifespan, problems

__all__ = ["EventStream", "lifespan", "mine", "problems", "router"]


def mine(chat: Chat, user: Callable[..., Any]) -> Any:
    """Return a dependency that yields what is the user's: `Me = Annotated[Mine, mine(chat, current_user)]`. `user`: a
    dependency of the program's own, which returns the user's id, or a `User` with a tenant."""

    async def found(who: Annotated[Any, Depends(user)]) -> Mine:
        return await mine_of(chat, who)

    return Depends(found)


class _Routed(Response):
    """What the bare application answers."""

    def __init__(self, me: Mine, path: str) -> None:
        super().__init__()
        self._me = me
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def identify(_: Any) -> Mine:
            return self._me

        await conversations_of(identify)({**scope, "path": self._path, "root_path": ""}, receive, send)


def router(chat: Chat, user: Callable[..., Any]) -> APIRouter:
    """Return the conversation routes (docs/wire.md), for the user whom the dependency `user` returns."""
    routes = APIRouter(include_in_schema=False)

    @routes.api_route("/conversations{rest:path}", methods=["GET", "POST"])
    async def conversation(rest: str, me: Annotated[Mine, mine(chat, user)]) -> Response:
        return _Routed(me, f"/conversations{rest}")

    return routes
