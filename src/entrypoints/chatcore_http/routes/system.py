"""The server's name, version and health."""

from typing import Annotated, Literal

import msgspec
from dishka.integrations.litestar import DishkaRouter, FromDishka
from litestar import Router, get

from chatcore import CountOldKeys
from chatcore.errors import ReadOnly, Unavailable
from chatcore_app import Readiness, Settings


class About(msgspec.Struct, frozen=True):
    name: str
    version: str
    status: Literal["running"] = "running"


class Health(msgspec.Struct, frozen=True):
    status: Annotated[str, msgspec.Meta(examples=["healthy"])]


class Ready(msgspec.Struct, frozen=True):
    """`old_keys`: how many API keys are sealed with another encryption key than the newest, counted up to 1000; null if
    unknown. More than 0 means that `chatcore keys rotate` is due."""

    old_keys: int | None
    status: Literal["ready"] = "ready"


@get("/")
async def about(settings: FromDishka[Settings]) -> About:
    """Return the server's name and version. Needs no token."""
    return About(settings.app_name, settings.app_version)


@get("/health")
async def health() -> Health:
    """Show that the process answers, without asking any other part. Needs no token."""
    return Health("healthy")


@get("/ready")
async def ready(readiness: FromDishka[Readiness], count_old_keys: FromDishka[CountOldKeys]) -> Ready:
    """Check every part that requests need; if one fails, answer 503 with its name. Needs no token."""
    for part, check in readiness.checks.items():
        try:
            await check()
        except Unavailable as error:
            state = "read-only" if isinstance(error, ReadOnly) else "not available"
            raise Unavailable(f"Not ready: the {part} is {state}.") from error
    try:
        return Ready(await count_old_keys())
    except Unavailable:
        return Ready(None)


def routers() -> list[Router]:
    return [DishkaRouter(path="", route_handlers=[about, health, ready], tags=["system"])]
