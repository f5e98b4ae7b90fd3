"""Who asks, as the host says."""

from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any, NamedTuple, TypeAlias

from chatcore import Chat, Mine
from chatcore.errors import Unauthenticated
from chatcore_asgi.types import Scope


class User(NamedTuple):
    """The host's own id of a user, 1 to 255 characters, and the tenant, if there are several."""

    user: str
    tenant: str = ""


Found: TypeAlias = User | str | None
Authenticate: TypeAlias = Callable[[Scope], Found | Awaitable[Found]]
"""Returns the user of a request, or None, which is answered 401. `scope` is ASGI's, with what the host's own middleware
has put there. It may raise errors of chatcore's, such as `Forbidden`, and must not block."""


async def identified(authenticate: Authenticate, scope: Scope) -> User:
    """Return the user. Raise `Unauthenticated` if there is none."""
    found = authenticate(scope)
    return user_of(await found if isawaitable(found) else found)


def user_of(found: Any) -> User:
    """Return the user that the host found. Raise `Unauthenticated` if there is none."""
    if found is None:
        raise Unauthenticated
    if isinstance(found, str):
        return User(found)
    if isinstance(found, User):
        return found
    raise TypeError(f"a user must be a str, a User or None, not {type(found).__name__}")


async def mine_of(chat: Chat, found: Found) -> Mine:
    """Return the `Mine` of the user that the host found. Raise `Unauthenticated` if there is none."""
    user = user_of(found)
    return await chat.of(user.user, tenant=user.tenant)
