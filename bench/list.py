"""What an authenticated `GET /conversations` of 20 items costs: requests per CPU second of the server's process.

    python bench/list.py [--database mysql://root@127.0.0.1:3306] [--requests 2000] [--rounds 7] [--at-once 16]

Beside it stand two other ways of answering the same request with the same two statements (the session check, the
list) on the same database:

- by hand: a handler in the same Litestar application with its own asyncmy pool, that goes from rows to JSON directly;
- the usual way: FastAPI with SQLAlchemy's synchronous ORM on PyMySQL, in FastAPI's thread pool, and pydantic's answer.

All three verify the same token and are served by uvicorn with uvloop and httptools. The servers and the client are
processes of their own. What is counted is the CPU of the server's, system time included, in rounds that take turns; the
cheapest round of each counts, as the least disturbed one. It exits with 1 if chatcore serves less than 2/3 of what is
done by hand, or less than 4 times what the usual way serves.

Needs fastapi and pymysql besides chatcore itself.
"""

import argparse
import asyncio
import secrets
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import msgspec
import uvicorn
import uvloop
from databases import new_database
from processes import Child, child, tell
from sqlalchemy import URL, make_url
from sqlalchemy.dialects import mysql

from chatcore_sql import conversations, tokens

SECRET = "b3e7f0a94c5d4d1f8a6b2c90d7e1f358"
ENCRYPTION_KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
ITEMS = 20
STORED = 50
POOL = 10
BY_HAND, USUAL = 2 / 3, 4  # at least so many times what the others serve


# ---- by hand, in the same application ----------------------------------------------------------------------


def by_hand(url: URL) -> tuple[Any, Callable[[Any], Any]]:
    """The handler, and the lifespan of its pool."""
    import asyncmy
    from litestar import Request, Response, get

    from chatcore.errors import Unauthenticated
    from chatcore_http.auth import bearer_token
    from chatcore_security import JWTSigner

    signer = JWTSigner(SECRET)
    caller, listing = _text(tokens._CALLER), _text(conversations._LIST)
    pool: Any = None

    @asynccontextmanager
    async def pooled(_: object) -> AsyncGenerator[None, None]:
        nonlocal pool
        server: dict[str, Any] = {
            "host": url.host,
            "port": url.port,
            "user": url.username,
            "password": url.password or "",
        }
        async with asyncmy.create_pool(**server, db=url.database, minsize=POOL, maxsize=POOL, autocommit=True) as pool:
            yield

    @get("/by-hand")
    async def handler(request: Request[Any, Any, Any]) -> Response[bytes]:
        now = datetime.now(UTC)
        claims = signer.verify(bearer_token(request), now=now)
        async with pool.acquire() as connection, connection.cursor() as cursor:
            await cursor.execute(caller, (claims.user_id, claims.session_id))
            found = await cursor.fetchall()
            if not found or found[0][6] or found[0][5].replace(tzinfo=UTC) <= now or not found[0][13]:
                raise Unauthenticated
            await cursor.execute(listing, (claims.user_id, 0, ITEMS + 1))
            rows = await cursor.fetchall()
        items = [
            {
                "id": row[0],
                "title": row[2],
                "config_id": row[4],
                "created_at": row[6].replace(tzinfo=UTC),
                "updated_at": row[7].replace(tzinfo=UTC),
            }
            for row in rows[:ITEMS]
        ]
        page = {"items": items, "has_more": len(rows) > ITEMS, "limit": ITEMS, "offset": 0}
        return Response(msgspec.json.encode(page), media_type="application/json")

    return handler, pooled


def _text(statement: Any) -> str:
    """The statement as chatcore has it sent."""
    return str(statement.compile(dialect=mysql.asyncmy.dialect()))


def serve_chatcore(database_url: str) -> None:
    from chatcore_app import Settings
    from chatcore_app.logs import configure_logging
    from chatcore_cli.server import uvicorn_options
    from chatcore_http import create_app

    environ = {
        "ENVIRONMENT": "production",
        "DATABASE_URL": database_url,
        "DATABASE_POOL_SIZE": str(POOL),
        "SECRET_KEY": SECRET,
        "ENCRYPTION_KEYS": ENCRYPTION_KEY,
        "PORT": "0",
    }
    settings = Settings.load(environ, env_file="/dev/null")
    configure_logging(settings)
    app = create_app(settings)
    handler, pooled = by_hand(make_url(database_url))
    app.register(handler)
    app._lifespan_managers.append(pooled)
    Server(uvicorn.Config(app, loop="uvloop", **uvicorn_options(settings))).run()


# ---- the usual way -----------------------------------------------------------------------------------------


def serve_usual(database_url: str) -> None:
    from usual import application

    app = application(make_url(database_url).set(drivername="mysql+pymysql"), SECRET, POOL)
    Server(uvicorn.Config(app, port=0, loop="uvloop", http="httptools", log_level="warning", access_log=False)).run()


class Server(uvicorn.Server):
    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        print(f"running: http://127.0.0.1:{self.servers[0].sockets[0].getsockname()[1]}/", flush=True)


# ---- the client --------------------------------------------------------------------------------------------


async def ask(session: aiohttp.ClientSession, url: str, number: int, at_once: int, expected: bytes) -> None:
    """So many requests, so many at once on connections that stay open; each answer is looked at."""

    async def some(count: int) -> None:
        for _ in range(count):
            async with session.get(url) as answer:
                assert await answer.read() == expected, answer.status

    await asyncio.gather(*(some(number // at_once) for _ in range(at_once)))


async def filled(url: str) -> str:
    """The access token of one among a few users, each with conversations enough for a second page."""
    from chatcore.entities import Profile, Session, SessionId
    from chatcore.ports import AccessClaims
    from chatcore_security import JWTSigner
    from chatcore_sql import Database

    now = datetime.now(UTC).replace(microsecond=123456)
    later = now + timedelta(hours=1)
    async with Database(url) as database:
        for name in ("ada", "grace", "barbara"):
            async with database.unit_of_work() as work:
                user = await work.users.add(
                    username=name, email=None, password_hash="-", roles=frozenset({"user"}), profile=Profile(), now=now
                )
                session = Session(
                    id=SessionId(secrets.token_urlsafe(16)),
                    user_id=user.id,
                    login_time=now,
                    authenticated_at=now,
                    last_used_at=later,  # nobody's bench: noting the use is a third statement, once a minute
                    expires_at=later,
                    user_agent="bench",
                    address="127.0.0.1",
                )
                await work.tokens.add_session(session)
                for number in range(STORED):
                    at = now + timedelta(milliseconds=number)
                    await work.conversations.add(user.id, title=f"Conversation {number}", config_id=None, now=at)
                await work.commit()
    claims = AccessClaims(user_id=user.id, session_id=session.id, issued_at=now, expires_at=later, authenticated_at=now)
    return JWTSigner(SECRET).sign(claims)


async def compare(options: argparse.Namespace) -> bool:
    """Whether chatcore is as good as it should be."""
    async with new_database(options.database) as url:
        return await compare_on(url, options)


async def compare_on(url: str, options: argparse.Namespace) -> bool:
    headers = {"Authorization": f"Bearer {await filled(url)}"}
    costs: dict[str, list[float]] = {"chatcore": [], "by hand": [], "usual": []}
    with child("chatcore", url) as ours, child("usual", url) as usual:
        ways: dict[str, tuple[Child, str]] = {
            "chatcore": (ours, f"{ours.url}/conversations"),
            "by hand": (ours, f"{ours.url}/by-hand"),
            "usual": (usual, f"{usual.url}/conversations"),
        }
        async with aiohttp.ClientSession(headers=headers) as session:
            expected = await answers(session, {name: way[1] for name, way in ways.items()})
            for number in range(options.rounds + 1):
                for name, (process, address) in ways.items():
                    before = process.cpu()
                    await ask(session, address, options.requests, options.at_once, expected[name])
                    if number:  # the first round fills caches and pools
                        costs[name].append(process.cpu() - before)
    return told({name: options.requests / min(cost) for name, cost in costs.items()})


async def answers(session: aiohttp.ClientSession, urls: dict[str, str]) -> dict[str, bytes]:
    """What each of them answers: the same bytes by hand, the same items in the usual way."""
    found: dict[str, bytes] = {}
    for name, url in urls.items():
        async with session.get(url) as answer:
            assert answer.status == 200, f"{name}: {await answer.text()}"
            found[name] = await answer.read()
    pages = {name: msgspec.json.decode(body) for name, body in found.items()}
    assert found["chatcore"] == found["by hand"]
    titles = {name: [item["title"] for item in page["items"]] for name, page in pages.items()}
    assert titles["chatcore"] == titles["usual"]
    assert len(titles["chatcore"]) == ITEMS
    assert pages["chatcore"]["has_more"] is pages["usual"]["has_more"] is True
    return found


def told(rates: dict[str, float]) -> bool:
    print(f"GET /conversations, {ITEMS} items: requests per CPU second of the server")
    for name, rate in rates.items():
        print(f"  {name:10} {rate:8.0f}   {1e6 / rate:6.0f} µs each")
    good = True
    for name, least in {"by hand": BY_HAND, "usual": USUAL}.items():
        ratio = rates["chatcore"] / rates[name]
        print(f"  chatcore is {ratio:.2f} times {name}; at least {least:.2f} is asked for")
        good = good and ratio >= least
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--database", default="mysql://root@127.0.0.1:3306", help="a MySQL or MariaDB server")
    parser.add_argument("--requests", type=int, default=2000, help="in each round, of each way")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--at-once", type=int, default=16)
    options = parser.parse_args()
    options.requests -= options.requests % options.at_once
    sys.exit(0 if uvloop.run(compare(options)) else 1)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["chatcore", url]:
            tell()
            serve_chatcore(url)
        case ["usual", url]:
            tell()
            serve_usual(url)
        case _:
            main()
