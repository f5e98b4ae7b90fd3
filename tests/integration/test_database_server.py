"""A database server as an operator meets it: TLS, a start that cannot succeed, a server that goes and comes back."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from chatcore.ports import LLMGateway
from chatcore_memory import ScriptedModel
from chatcore_sql import Database, DatabaseUnreachable
from chatcore_sql.statements import SingleReads
from integration.databases import SERVERS, execute
from integration.http_app import Api, api_of, provided, settings_for
from integration.processes import run, serving
from integration.servers import PASSWORD, DatabaseServer, database_server
from integration.test_http_command import check_sentence

pytestmark = pytest.mark.timeout(300)

SECRETS = ("geh@im", PASSWORD)
ENCRYPTED = {
    "mysql": "SELECT variable_value <> '' FROM information_schema.session_status WHERE variable_name = 'Ssl_cipher'",
    "postgresql": "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
}
ENCRYPTING = {
    "mysql": (
        "ssl=true",
        "ssl-mode=REQUIRED&charset=utf8mb4",
        "sslaccept=accept_invalid_certs&reconnect=true",
        "ssl_ca={folder}/ca.pem&ssl_verify_cert=true",
        "ssl_mode=required",
        "ssl_ca={folder}/ca.pem&ssl_cert=&ssl_key=",
        "ssl-mode=VERIFY_CA&ssl-ca={folder}/ca.pem",
        "ssl_ca={folder}/ca.pem&ssl_cert={folder}/client.pem&ssl_key={folder}/client.key",
    ),
    "postgresql": (
        "ssl=true",
        "ssl=require",
        "sslmode=require&channel_binding=prefer",
        "sslrootcert={folder}/ca.pem",
        "sslmode=verify-ca&sslrootcert={folder}/ca.pem",
        "sslmode=require&sslrootcert={folder}/ca.pem&sslcert={folder}/client.pem&sslkey={folder}/client.key",
    ),
}
FULLY = {
    "mysql": "ssl-mode=VERIFY_IDENTITY&ssl-ca={folder}/ca.pem",
    "postgresql": "sslmode=verify-full&sslrootcert={folder}/ca.pem",
}


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    with database_server(request.param) as server:
        yield server


async def encrypted(server: DatabaseServer, url: str) -> bool:
    async with Database(url) as database:
        await database.is_migrated()
        row = await SingleReads(database._reading).first(text(ENCRYPTED[server.kind]))
        assert row is not None
        return bool(row[0])


async def refusal(url: str) -> str:
    async with Database(url) as database:
        with pytest.raises(DatabaseUnreachable) as refused:
            await database.is_migrated()
    sentence = str(refused.value)
    for secret in SECRETS:
        assert secret not in sentence
    return sentence


# ---- TLS -------------------------------------------------------------------------------------------------


async def test_what_asks_for_tls_gets_it(server: DatabaseServer) -> None:
    for parameters in ENCRYPTING[server.kind]:
        assert await encrypted(server, server.url(parameters)), parameters
    assert await encrypted(server, server.url(FULLY[server.kind], host="localhost"))


async def test_what_does_not_has_what_the_driver_does_by_itself(server: DatabaseServer) -> None:
    """asyncpg takes TLS where it can be had."""
    assert await encrypted(server, server.url()) is (server.kind == "postgresql")
    off = "ssl-mode=DISABLED" if server.kind == "mysql" else "sslmode=disable"
    for parameters in (off, "ssl=false"):
        assert await encrypted(server, server.url(parameters)) is False


async def test_a_server_that_is_not_vouched_for_is_refused(server: DatabaseServer) -> None:
    other = FULLY[server.kind].replace("ca.pem", "other-ca.pem")
    unknown = FULLY[server.kind].partition("&")[0]  # the system's authorities do not know it either
    for parameters in (other, unknown):
        assert "certificate verify failed" in await refusal(server.url(parameters, host="localhost"))
    only_authorities = other.partition("&")[2]
    assert "certificate verify failed" in await refusal(server.url(only_authorities))
    assert "certificate is not valid for '127.0.0.1'" in await refusal(server.url(FULLY[server.kind]))


async def test_a_start_with_the_wrong_authority_is_refused_in_a_sentence(
    server: DatabaseServer, tmp_path: Path
) -> None:
    url = server.url(FULLY[server.kind].replace("ca.pem", "other-ca.pem"), host="localhost")
    for command in ("serve", "migrate"):
        ended = await run(tmp_path, command, DATABASE_URL=url)
        check_sentence(ended, "DATABASE_URL", f"localhost:{server.port}", "certificate verify failed")


async def test_channel_binding_is_an_identity_that_is_verified(server: DatabaseServer) -> None:
    if server.kind == "mysql":
        pytest.skip("MySQL has none")
    asked = "sslmode=require&channel_binding=require&sslrootcert={folder}/ca.pem"
    assert await encrypted(server, server.url(asked, host="localhost"))
    assert "certificate is not valid for '127.0.0.1'" in await refusal(server.url(asked))
    assert "in the URL's ssl-ca" in await refusal(server.url("channel_binding=require", host="localhost"))


# ---- URLs as providers print them ------------------------------------------------------------------------


async def said_by(url: str, *queries: str) -> list[object]:
    async with Database(url) as database:
        rows = [await SingleReads(database._reading).first(text(query)) for query in queries]
    return [row and row[-1] for row in rows]


async def test_a_socket_takes_the_place_of_a_host(server: DatabaseServer, tmp_path: Path) -> None:
    name = "unix_socket={folder}/socket" if server.kind == "mysql" else f"host={{folder}}&port={server.port}"
    url = server.url(name, host="").replace(f"@:{server.port}", "@")
    ended = await run(tmp_path, "migrate", DATABASE_URL=f'"{url}"\n')
    if server.kind == "mysql":  # on its socket everybody is the anonymous user
        check_sentence(ended, f"at {server.folder}/socket is not available: Access denied")
    else:
        assert (ended.code, ended.stderr) == (0, "")
    ended = await run(tmp_path, "migrate", DATABASE_URL=url.replace(str(server.folder), "/nowhere"))
    check_sentence(ended, "DATABASE_URL: the database 'chat' at /nowhere", "No such file or directory")


async def test_what_a_url_asks_of_postgresql_is_so_there(server: DatabaseServer) -> None:
    if server.kind == "mysql":
        pytest.skip("for PostgreSQL")
    asked = "application_name=my+chat&options=-c%20work_mem%3D5MB&schema=mine&pgbouncer=true&connect_timeout=10"
    url = server.url(asked).replace("postgresql://", "postgresql+asyncpg://")
    several = url.replace(f"127.0.0.1:{server.port}", f"127.0.0.1:1,localhost:{server.port}")
    for each in (url, several):
        said = await said_by(f'"{each}"', "SHOW application_name", "SHOW work_mem", "SHOW search_path")
        assert said == ["my chat", "5MB", '"mine"']


async def test_of_several_servers_the_one_that_may_be_written_to_is_taken(server: DatabaseServer) -> None:
    if server.kind == "mysql":
        pytest.skip("for PostgreSQL")
    await execute(server.url(), "ALTER ROLE chat IN DATABASE chat SET default_transaction_read_only = on")
    try:
        two = f"127.0.0.1:{server.port},localhost:{server.port}"
        url = server.url().replace(f"127.0.0.1:{server.port}", two)
        assert "attribute" in await refusal(url)
        assert await said_by(f"{url}?target_session_attrs=any", "SELECT 1") == [1]
    finally:
        writing = "SET default_transaction_read_only = off"
        await execute(server.url(), writing, "ALTER ROLE chat IN DATABASE chat RESET default_transaction_read_only")


async def test_the_clients_certificate_is_shown(server: DatabaseServer) -> None:
    shown = ENCRYPTING[server.kind][-1]
    if server.kind == "mysql":
        assert "Access denied" in await refusal(server.url("ssl=true", login="certified"))
        async with Database(server.url(shown, login="certified", database="information_schema")) as database:
            await database.check()
    else:
        async with Database(server.url(shown)) as database:
            asked = text("SELECT client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            row = await SingleReads(database._reading).first(asked)
            assert row is not None
            assert row[0] == "/CN=chatcore tests: client"


# ---- a start that cannot succeed -------------------------------------------------------------------------


async def test_what_prevents_a_start_is_said_in_a_sentence(server: DatabaseServer, tmp_path: Path) -> None:
    login = "chat:wr0ng-geheim"
    place = f"127.0.0.1:{server.port}"
    wrong_password = "Access denied" if server.kind == "mysql" else "password authentication failed"
    missing = "Unknown database 'nosuch'" if server.kind == "mysql" else 'database "nosuch" does not exist'
    for command in ("serve", "migrate"):
        for url, parts in (
            (server.url(login=login), (place, wrong_password)),
            (server.url(database="nosuch"), (place, missing)),
            (f"{server.kind}://chat:{PASSWORD}@127.0.0.1:1/chat", ("127.0.0.1:1", "Connection refused")),
            (f"{server.kind}://chat:{PASSWORD}@nosuch.invalid/chat", ("nosuch.invalid:",)),
        ):
            ended = await run(tmp_path, command, DATABASE_URL=url)
            check_sentence(ended, "DATABASE_URL: the database ", *parts)
            for secret in (*SECRETS, "wr0ng"):
                assert secret not in ended.stderr


async def test_a_script_needs_no_database(tmp_path: Path) -> None:
    for scheme, collation in (("mysql", "utf8mb4_0900_bin"), ("mariadb", "utf8mb4_nopad_bin"), ("postgresql", "")):
        url = f"{scheme}://chat:{PASSWORD}@nosuch.invalid/chat?ssl=true"
        ended = await run(tmp_path, "migrate", "--sql", DATABASE_URL=url)
        assert (ended.code, ended.stderr) == (0, "")
        assert "CREATE TABLE users (" in ended.stdout
        assert (f"COLLATE {collation}" in ended.stdout) is bool(collation)
    rest = await run(tmp_path, "migrate", "--sql", "0001", DATABASE_URL="mysql://nosuch.invalid/chat")
    assert "CREATE TABLE users (" not in rest.stdout
    assert "titled_by_user" in rest.stdout
    unknown = await run(tmp_path, "migrate", "--sql", "9999", DATABASE_URL="mysql://nosuch.invalid/chat")
    assert unknown.code == 2
    assert "--sql: " in unknown.stderr
    assert "'9999'" in unknown.stderr


# ---- a server that goes and comes back -------------------------------------------------------------------


async def test_without_its_database_a_running_server_says_to_try_again(server: DatabaseServer, tmp_path: Path) -> None:
    assert (await run(tmp_path, "migrate", DATABASE_URL=server.url())).code == 0
    async with serving(tmp_path, DATABASE_URL=server.url()) as serving_one:
        ada = await serving_one.api.user()
        await asyncio.to_thread(server.stop)
        for path in ("/auth/me", "/conversations", "/ready"):
            answer = await ada.get(path)
            answer.unavailable()
        assert (await ada.get("/health")).status == 200
        await asyncio.to_thread(server.start)
        assert (await ada.get("/ready")).status == 200
        (await ada.get("/auth/me")).ok()


PLAIN = {
    "mysql": (f"CREATE USER plain IDENTIFIED BY '{SECRETS[0]}'", "GRANT ALL ON chat.* TO plain"),
    "postgresql": (
        f"CREATE ROLE plain LOGIN PASSWORD '{SECRETS[0]}'",
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO plain",
        "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO plain",
    ),
}
NO_LONGER = {"mysql": ("DROP USER plain",), "postgresql": ("DROP OWNED BY plain", "DROP ROLE plain")}
FOUR_CONNECTIONS = {
    "mysql": "ALTER USER plain WITH MAX_USER_CONNECTIONS 4",
    "postgresql": "ALTER ROLE plain CONNECTION LIMIT 4",
}
READ_ONLY = {
    "mysql": ("SET GLOBAL read_only = ON",),
    "postgresql": (
        "ALTER DATABASE chat SET default_transaction_read_only = on",  # of sessions that begin now
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'plain'",
    ),
}
READ_AND_WRITE = {
    "mysql": "SET GLOBAL read_only = OFF",
    "postgresql": "ALTER DATABASE chat SET default_transaction_read_only = off",
}


@pytest.fixture
async def ada(server: DatabaseServer, tmp_path: Path) -> AsyncIterator[Api]:
    """The server's user may no more than use the tables."""
    async with Database(server.url()) as database:
        await database.migrate()
    await execute(server.url(), *PLAIN[server.kind])
    model = provided(LLMGateway, ScriptedModel("Hello"))
    async with (
        Database(server.url(login=f"plain:{PASSWORD}"), pool_size=6) as database,
        api_of(settings_for(tmp_path), provided(Database, database), model) as api,
    ):
        yield await api.user("ada")
    await execute(server.url(), "DELETE FROM owners", *NO_LONGER[server.kind])


async def asked_as_administrator(server: DatabaseServer, *statements: str) -> None:
    await execute(server.url(database="mysql" if server.kind == "mysql" else "postgres"), *statements)


async def test_where_the_server_gives_no_more_connections_requests_wait_for_those_that_there_are(
    server: DatabaseServer, ada: Api
) -> None:
    """Of ours there would be eight, with those for what is urgent."""
    conversations = [await ada.conversation() for _ in range(20)]
    await asked_as_administrator(server, FOUR_CONNECTIONS[server.kind])
    for _ in range(4):
        answers = await asyncio.gather(
            *(ada.get("/conversations") for _ in conversations),
            *(ada.post(f"/conversations/{it}/rename", {"title": "Other"}) for it in conversations),
        )
        assert [answer.status for answer in answers if answer.status != 200] == []


async def test_while_the_server_is_read_only_changes_are_refused_and_then_made(
    server: DatabaseServer, ada: Api
) -> None:
    """As after a fail-over, while our connections are to the server that was the first one."""
    path = f"/conversations/{await ada.conversation()}"
    for _ in range(2):
        await asked_as_administrator(server, *READ_ONLY[server.kind])
        for change, body in (("rename", {"title": "Other"}), ("chat", {"content": "Hi"})):
            refused = await ada.post(f"{path}/{change}", body)
            assert "accepts no changes" in refused.unavailable()["detail"]
        (await ada.get("/conversations")).ok()
        ready = await ada.get("/ready")
        assert ready.unavailable()["detail"] == "Not ready: the database is read-only."
        await asked_as_administrator(server, READ_AND_WRITE[server.kind])
        (await ada.get("/ready")).ok()
        (await ada.post(f"{path}/rename", {"title": "Other"})).ok()
        assert (await ada.post(f"{path}/chat", {"content": "Hi"})).ok()["reply"]["content"] == "Hello"


async def test_a_server_without_tls_is_refused_if_that_is_asked_for(server: DatabaseServer) -> None:
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(lambda: server.start(tls=False))
    try:
        assert await encrypted(server, server.url()) is False
        said = "does not speak TLS" if server.kind == "mysql" else "rejected SSL upgrade"
        assert said in await refusal(server.url("ssl=true"))
    finally:
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
