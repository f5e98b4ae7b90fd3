"""/auth/keys: personal API keys."""

from dishka.integrations.litestar import FromDishka
from litestar import Router, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from chatcore import Caller, CreateApiKey, ListApiKeys, RevokeApiKey, SessionId
from chatcore.use_cases.api_keys import DEFAULT_SCOPES
from chatcore_http import account_schemas, schemas
from chatcore_http.routing import described, private_router


@get("/", description=described(ListApiKeys))
async def list_keys(
    caller: NamedDependency[Caller],
    keys: FromDishka[ListApiKeys],
    limit: FromQuery[int] = 100,
    offset: FromQuery[int] = 0,
) -> account_schemas.ApiKeys:
    page = await keys(caller=caller, limit=limit, offset=offset)
    items = [account_schemas.ApiKey.of(key) for key in page.items]
    return account_schemas.ApiKeys(items, page.has_more, limit, offset)


@post("/create", status_code=201, description=described(CreateApiKey))
async def create_key(
    data: JSONBody[account_schemas.NewApiKey], caller: NamedDependency[Caller], create: FromDishka[CreateApiKey]
) -> account_schemas.CreatedApiKey:
    scopes = DEFAULT_SCOPES if data.scopes is None else data.scopes
    created = await create(caller=caller, name=data.name, scopes=scopes, expires_at=data.expires_at)
    return account_schemas.CreatedApiKey.of(created.session, key=created.key)


@post("/{key_id:str}/revoke", status_code=200, description=described(RevokeApiKey))
async def revoke_key(
    key_id: FromPath[str], caller: NamedDependency[Caller], revoke: FromDishka[RevokeApiKey]
) -> schemas.Said:
    await revoke(caller=caller, key_id=SessionId(key_id))
    return schemas.Said("The API key is revoked.")


def routers() -> list[Router]:
    return [private_router("/auth/keys", [list_keys, create_key, revoke_key], tag="API keys")]
