"""Users' own model endpoints."""

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import Integer, bindparam, delete, insert, select, update

from chatcore.entities import ModelConfig, ModelConfigId, OwnerId
from chatcore.ports import ModelConfigRepo
from chatcore_sql.dialects.mysql import BY_KEY, by_index
from chatcore_sql.mapped import Mapped
from chatcore_sql.pages import LIMIT, newest_first
from chatcore_sql.statements import Statements
from chatcore_sql.tables import LARGEST_ID, model_configs

_m = model_configs.c
_MAPPED = Mapped(ModelConfig, model_configs)
CONFIG = _MAPPED.columns
config_from: Callable[..., ModelConfig] = _MAPPED.from_row
_THIS = (_m.user_id == bindparam("owner"), _m.id == bindparam("config"))
_ADD = insert(model_configs)
_OWN = select(*CONFIG).with_hint(model_configs, **by_index("ix_model_configs_user_id_id"))
_NEWEST_FIRST = newest_first(_OWN, {_m.user_id: bindparam("owner")}, _m.id)
_LIST = _NEWEST_FIRST.limit(LIMIT).offset(bindparam("offset", type_=Integer))
_NEWEST = _NEWEST_FIRST.limit(1)
_GET = select(*CONFIG).where(*_THIS)
# On MySQL all who change a row find it by its primary key: who comes by another index has its entry first, and the two
# wait for each other.
_LOCK = _GET.with_hint(model_configs, **BY_KEY).with_for_update()
_SAVE = update(model_configs).where(*_THIS).with_hint(**BY_KEY)
_DELETE = delete(model_configs).where(*_THIS)


class SqlModelConfigRepo(ModelConfigRepo):
    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    async def add(self, owner: OwnerId, *, model_url: str, model_name: str, now: datetime) -> ModelConfig:
        config_id = await self._statements.insert(
            _ADD,
            user_id=owner,
            model_url=model_url,
            model_name=model_name,
            sealed_key="",
            api_key_hint="",
            sealed_with="",
            created_at=now,
            updated_at=now,
        )
        return ModelConfig(
            id=config_id,
            user_id=owner,
            model_url=model_url,
            model_name=model_name,
            sealed_key="",
            api_key_hint="",
            created_at=now,
            updated_at=now,
        )

    async def list(self, owner: OwnerId, *, limit: int, offset: int) -> Sequence[ModelConfig]:
        rows = await self._statements.rows(_LIST, owner=owner, before=LARGEST_ID, limit=limit, offset=offset)
        return [config_from(row) for row in rows]

    async def get(self, owner: OwnerId, config_id: ModelConfigId) -> ModelConfig | None:
        row = await self._statements.first(_GET, owner=owner, config=config_id)
        return config_from(row) if row else None

    async def lock(self, owner: OwnerId, config_id: ModelConfigId) -> ModelConfig | None:
        row = await self._statements.lock(_LOCK, owner=owner, config=config_id)
        return config_from(row) if row else None

    async def newest(self, owner: OwnerId) -> ModelConfig | None:
        row = await self._statements.first(_NEWEST, owner=owner, before=LARGEST_ID)
        return config_from(row) if row else None

    async def save(self, config: ModelConfig) -> bool:
        saved = await self._statements.change(
            _SAVE,
            owner=config.user_id,
            config=config.id,
            model_url=config.model_url,
            model_name=config.model_name,
            sealed_key=config.sealed_key,
            api_key_hint=config.api_key_hint,
            sealed_with=config.sealed_with,
            updated_at=config.updated_at,
        )
        return saved == 1

    async def delete(self, owner: OwnerId, config_id: ModelConfigId) -> bool:
        return await self._statements.change(_DELETE, owner=owner, config=config_id) == 1
