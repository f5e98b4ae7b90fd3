"""/v1/models: what a request may name as its model."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, Self

import msgspec
from dishka.integrations.litestar import FromDishka
from litestar import Router, get
from litestar.di import NamedDependency
from litestar.params import FromPath

from chatcore import ChatOptions, FindModel, ListModels, OfferedModel, Owner
from chatcore_http.routing import private_router


async def with_model(find_model: FindModel, caller: Owner, name: str | None, options: ChatOptions) -> ChatOptions:
    """Return the options with the model of this name. Without one it is that of the conversation, the newest
    configuration, or the server's. Raise `UnknownModel`."""
    if not name:
        return options
    found = await find_model(owner=caller.owner, model=name)
    return replace(options, config_id=found.config_id, server_model=found.config_id is None)


class Model(msgspec.Struct, frozen=True):
    """`created`: seconds since 1970; 0 for the server's own model."""

    id: str
    created: int
    owned_by: Literal["user", "system"]
    object: Literal["model"] = "model"

    @classmethod
    def of(cls, model: OfferedModel) -> Self:
        if model.created_at is None:
            return cls(model.name, 0, "system")
        return cls(model.name, int(model.created_at.timestamp()), "user")


class Models(msgspec.Struct, frozen=True):
    data: Sequence[Model]
    object: Literal["list"] = "list"


@get("/models")
async def list_all(caller: NamedDependency[Owner], list_models: FromDishka[ListModels]) -> Models:
    return Models([Model.of(model) for model in await list_models(owner=caller.owner)])


@get("/models/{model_id:path}")
async def read(model_id: FromPath[str], caller: NamedDependency[Owner], find_model: FromDishka[FindModel]) -> Model:
    """Names have slashes and colons (`org/name`, `name:tag`)."""
    return Model.of(await find_model(owner=caller.owner, model=model_id.removeprefix("/")))


def routers() -> list[Router]:
    return [private_router("/v1", [list_all, read], tag="openai", keys=True, include_in_schema=False)]
