"""/auth/config: the user's own model endpoints."""

from dishka.integrations.litestar import FromDishka
from litestar import Router, get, post
from litestar.di import NamedDependency
from litestar.params import FromQuery, JSONBody

from chatcore import (
    CheckModelConfig,
    CreateModelConfig,
    DeleteModelConfig,
    ListModelConfigs,
    ModelConfigId,
    Owner,
    UpdateModelConfig,
)
from chatcore_http import schemas
from chatcore_http.routing import PathId, described, private_router


@get("/", description=described(ListModelConfigs))
async def list_configs(
    caller: NamedDependency[Owner],
    list_model_configs: FromDishka[ListModelConfigs],
    limit: FromQuery[int] = 100,
    offset: FromQuery[int] = 0,
) -> schemas.ModelConfigs:
    page = await list_model_configs(owner=caller.owner, limit=limit, offset=offset)
    configs = [schemas.ModelConfig.of(config) for config in page.items]
    return schemas.ModelConfigs(configs, page.has_more, limit, offset)


@post("/create", status_code=201, description=described(CreateModelConfig))
async def create(
    data: JSONBody[schemas.NewModelConfig],
    caller: NamedDependency[Owner],
    create_model_config: FromDishka[CreateModelConfig],
) -> schemas.ModelConfig:
    config = await create_model_config(
        by=caller, model_url=data.model_url, model_name=data.model_name, api_key=data.api_key
    )
    return schemas.ModelConfig.of(config)


@post("/{config_id:int}/update", status_code=200, description=described(UpdateModelConfig))
async def update(
    config_id: PathId,
    caller: NamedDependency[Owner],
    update_model_config: FromDishka[UpdateModelConfig],
    data: JSONBody[schemas.ModelConfigChange | None] = None,
) -> schemas.ModelConfig:
    change = data or schemas.ModelConfigChange()
    config = await update_model_config(
        by=caller,
        config_id=ModelConfigId(config_id),
        model_url=change.model_url,
        model_name=change.model_name,
        api_key=change.api_key,
    )
    return schemas.ModelConfig.of(config)


@post("/{config_id:int}/check", status_code=200, description=described(CheckModelConfig))
async def check(
    config_id: PathId, caller: NamedDependency[Owner], check_model_config: FromDishka[CheckModelConfig]
) -> schemas.ModelCheck:
    checked = await check_model_config(by=caller, config_id=ModelConfigId(config_id))
    return schemas.ModelCheck.of(checked)


@post("/{config_id:int}/delete", status_code=200, description=described(DeleteModelConfig))
async def delete(
    config_id: PathId, caller: NamedDependency[Owner], delete_model_config: FromDishka[DeleteModelConfig]
) -> schemas.Said:
    await delete_model_config(by=caller, config_id=ModelConfigId(config_id))
    return schemas.Said("The model configuration is deleted.")


def routers() -> list[Router]:
    return [private_router("/auth/config", [list_configs, create, update, check, delete], tag="model configurations")]
