"""What is made of the parameters of a database URL, and what is refused."""

import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from chatcore_sql import Database
from chatcore_sql.parameters import Asked, asked_by
from chatcore_sql.url import engine_url

HOST = "u:s3cret@h/x"


def asked(url: str) -> Asked:
    return asked_by(engine_url(url))


@pytest.mark.parametrize(
    ("url", "argument"),
    [
        (f"mysql://{HOST}", {}),
        (f"mysql://{HOST}?ssl=false", {}),
        (f"mysql://{HOST}?useSSL=false&allowPublicKeyRetrieval=true&serverTimezone=UTC", {}),
        (f"mysql://{HOST}?tls=false", {}),
        (f"mysql://{HOST}?ssl-mode=DISABLED&ssl-ca=/nowhere", {}),
        (f"postgresql://{HOST}", {}),
        (f"postgresql://{HOST}?sslmode=prefer", {"ssl": "prefer"}),
        (f"postgresql://{HOST}?sslmode=disable", {"ssl": False}),
    ],
)
def test_no_tls_or_what_the_driver_does(url: str, argument: dict[str, object]) -> None:
    assert asked(url).connect == argument
    assert not asked(url).url.query


@pytest.mark.parametrize(
    ("url", "verify", "host"),
    [
        (f"mysql://{HOST}?ssl=true", ssl.CERT_NONE, False),
        (f"mysql://{HOST}?ssl=1&ssl-mode=VERIFY_CA", ssl.CERT_REQUIRED, False),
        (f"mysql://{HOST}?ssl-mode=VERIFY_IDENTITY&ssl=false", ssl.CERT_REQUIRED, True),
        (f"mariadb://{HOST}?SSL_MODE=Verify_Identity", ssl.CERT_REQUIRED, True),
        (f"postgresql://{HOST}?sslmode=require", ssl.CERT_NONE, False),
        (f"postgresql://{HOST}?sslmode=verify-full", ssl.CERT_REQUIRED, True),
        (f"postgres://{HOST}?sslmode=require&sslrootcert=system", ssl.CERT_REQUIRED, True),
        (f"postgresql://{HOST}?sslmode=require&channel_binding=prefer", ssl.CERT_NONE, False),
        (f"postgresql://{HOST}?sslmode=require&channel_binding=require", ssl.CERT_REQUIRED, True),
        (f"postgresql://{HOST}?channel_binding=require", ssl.CERT_REQUIRED, True),
        (f"postgresql://{HOST}?sslaccept=accept_invalid_certs", ssl.CERT_NONE, False),
        (f"mysql://{HOST}?sslaccept=strict", ssl.CERT_REQUIRED, True),
        (f"mysql://{HOST}?ssl_verify_cert=true", ssl.CERT_REQUIRED, False),
        (f"mysql://{HOST}?ssl_verify_cert=true&ssl_verify_identity=true", ssl.CERT_REQUIRED, True),
        (f'mysql://{HOST}?ssl={{"rejectUnauthorized": true}}', ssl.CERT_REQUIRED, True),
        (f'mysql://{HOST}?ssl={{"minVersion":"TLSv1.2","rejectUnauthorized":true}}', ssl.CERT_REQUIRED, True),
        (f'mysql://{HOST}?ssl={{"rejectUnauthorized":false}}', ssl.CERT_NONE, False),
        (f"mysql://{HOST}?ssl={{}}", ssl.CERT_REQUIRED, True),
        (f"mysql://{HOST}?sslmode=require", ssl.CERT_NONE, False),
        (f"mysql://{HOST}?tls=true&parseTime=true&loc=Local", ssl.CERT_REQUIRED, True),
        (f"mysql://{HOST}?tls=skip-verify&interpolateParams=true", ssl.CERT_NONE, False),
        (f"mariadb://{HOST}?ssl-verify-server-cert=true", ssl.CERT_REQUIRED, True),
        (f"mysql://{HOST}?useSSL=true&requireSSL=true&verifyServerCertificate=false", ssl.CERT_NONE, False),
        (f"mysql://{HOST}?useSSL=true&verifyServerCertificate=true", ssl.CERT_REQUIRED, False),
        (f"postgresql://{HOST}?sslmode=no-verify", ssl.CERT_NONE, False),
    ],
)
def test_how_much_is_verified(url: str, verify: ssl.VerifyMode, host: bool) -> None:
    context = asked(url).connect["ssl"]
    assert (context.verify_mode, context.check_hostname) == (verify, host)


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://{HOST}?unix_socket=/run/it.sock",
        f"mysql://{HOST}?socket=/run/it.sock",
        "mysql://u:s3cret@%2Frun%2Fit.sock/x",
    ],
)
def test_a_socket_of_mysql(url: str) -> None:
    found = asked(url)
    assert found.connect == {"unix_socket": "/run/it.sock"}
    assert found.place == "the database 'x' at /run/it.sock"


@pytest.mark.parametrize(
    ("scheme", "driver"),
    [
        *((f"postgres{end}", "postgresql+asyncpg") for end in ("", "ql", "ql+asyncpg", "ql+psycopg", "+psycopg2")),
        ("PostgreSQL", "postgresql+asyncpg"),
        *((f"mysql{end}", "mysql+asyncmy") for end in ("", "2", "+asyncmy", "+pymysql", "+aiomysql", "+mysqldb")),
        ("mariadb+mariadbconnector", "mysql+asyncmy"),
        ("sqlite+aiosqlite", "sqlite+aiosqlite"),
    ],
)
def test_the_driver_is_ours_whatever_the_url_says(scheme: str, driver: str) -> None:
    at = "/file.db" if "sqlite" in scheme else HOST
    assert engine_url(f"{scheme}://{at}").drivername == driver


@pytest.mark.parametrize(
    "around",
    [
        "{}",
        '"{}"',
        "'{}'",
        "  {}\n",
        ' "{} "\r\n',
        "psql '{}'",
        "DATABASE_URL={}",
        'export DATABASE_URL="{}"\n',
        'PRODUCTION_DATABASE_URL="{}";',
    ],
)
def test_blanks_and_quotes_around_it_are_no_part_of_it(around: str) -> None:
    assert engine_url(around.format(f"mysql://{HOST}")) == engine_url(f"mysql://{HOST}")


@pytest.mark.parametrize(
    ("written", "password"),
    [("p%40ss", "p@ss"), ("p%2Fs%3As%25", "p/s:s%"), ("a/b?c#d:e!$&'()*+,;=", "a/b?c#d:e!$&'()*+,;="), ("p%s", "p%s")],
)
def test_a_password_of_any_characters(written: str, password: str) -> None:
    found = asked(f"postgresql://u:{written}@h:5433/x?sslmode=disable").url
    assert (found.password, found.host, found.port, found.database) == (password, "h", 5433, "x")


@pytest.mark.parametrize(
    ("url", "host", "port", "place"),
    [
        ("postgresql:///x?host=/run/postgresql", ["/run/postgresql"], [5432], "/run/postgresql"),
        ("postgresql://u@%2Frun%2Fpg:5433/x", ["/run/pg"], [5433], "/run/pg"),
        ("postgresql://u@/x?host=/cloudsql/a:b:c", ["/cloudsql/a:b:c"], [5432], "/cloudsql/a:b:c"),
        ("postgresql://u@h/x?port=5433", ["h"], [5433], "h:5433"),
        ("postgresql://u:p,w@a:1,b,[::1]:3/x", ["a", "b", "::1"], [1, 5432, 3], "a:1, b:5432, [::1]:3"),
        ("postgresql://u@/x?host=a,b&port=1,2", ["a", "b"], [1, 2], "a:1, b:2"),
    ],
)
def test_where_postgresql_is(url: str, host: list[str], port: list[int], place: str) -> None:
    found = asked(url)
    assert (found.connect["host"], found.connect["port"]) == (host, port)
    assert found.place == f"the database 'x' at {place}"
    assert found.connect.get("target_session_attrs") == ("read-write" if len(host) > 1 else None)


def test_an_address_of_version_6() -> None:
    for url in ("postgresql://u@[2001:db8::1]:5433/x", "mysql://u@[2001:db8::1]:5433/x"):
        assert (asked(url).url.host, asked(url).url.port) == ("2001:db8::1", 5433)
        assert asked(url).place.endswith(" at [2001:db8::1]:5433")


NEON = "postgresql://u:s3cret@ep-x-pooler.eu-central-1.aws.neon.tech/x"


@pytest.mark.parametrize(
    ("query", "connect"),
    [
        ("options=endpoint%3Dep-x", {"server_settings": {"options": "endpoint=ep-x"}}),
        ("options=-c%20search_path%3Da", {"server_settings": {"options": "-c search_path=a"}}),
        ("application_name=a+b", {"server_settings": {"application_name": "a b"}}),
        ("schema=public", {}),
        ("schema=Mine", {"server_settings": {"search_path": '"Mine"'}}),
        ("connect_timeout=15", {"timeout": 15}),
        ("connect_timeout=0", {}),
        ("target_session_attrs=read-write", {"target_session_attrs": "read-write"}),
        ("target_session_attrs=any", {}),
        ("pgbouncer=true&pool_timeout=20&statement_cache_size=0&prepareThreshold=0", {}),
        ("client_encoding=UTF8&gssencmode=disable&keepalives=1&keepalives_idle=30", {}),
        ("sslmode=disable&pool=true&socket_timeout=30&sslcompression=0&sslsni=1", {"ssl": False}),
        ("async_fallback=True&tcpKeepAlive=true&load_balance=true&ssl_min_protocol_version=TLSv1.2", {}),
        ("user=other&password=x&dbname=y", {}),
    ],
)
def test_what_else_a_url_of_postgresql_asks_for(query: str, connect: dict[str, object]) -> None:
    assert asked(f"{NEON}?{query}").connect == connect


def test_who_asks_where_is_said_by_parameters_too() -> None:
    found = asked(f"{NEON}?user=other&password=p%40&dbname=y").url
    assert (found.username, found.password, found.database) == ("other", "p@", "y")


@pytest.mark.parametrize(
    "query",
    [
        "charset=utf8mb4",
        "charset=utf8&collation=utf8mb4_unicode_ci",
        "useUnicode=true&characterEncoding=UTF-8&serverTimezone=UTC&parseTime=True",
        "reconnect=true&socketTimeout=30000&multiStatements=true&timezone=Z&autocommit=true",
        "charset=utf8mb4_unicode_ci",
    ],
)
def test_what_a_url_of_mysql_may_say_without_a_difference(query: str) -> None:
    assert asked(f"mysql://{HOST}?{query}").connect == {}
    assert asked(f"mysql://{HOST}?{query}&connect_timeout=7").connect == {"connect_timeout": 7}


@pytest.mark.parametrize(
    ("limit", "sizes"), [(None, [2, 10]), (1, [1]), (2, [1, 1]), (3, [1, 2]), (5, [2, 3]), (50, [2, 10])]
)
def test_the_urls_limit_of_connections_is_kept_by_all_pools_together(limit: int | None, sizes: list[int]) -> None:
    database = Database(f"mysql://{HOST}" + (f"?connection_limit={limit}" if limit else ""))
    assert sorted(pool.size for pool in database.pools) == sizes


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        (f"mysql://{HOST}?read_default_file=/x", "'read_default_file' is not known; it may have ssl, ssl-mode, ssl-ca"),
        (f"postgresql://{HOST}?service=x", "'service' is not known; it may have ssl, sslmode, "),
        (f"postgresql://{HOST}?channel_binding=always", "channel_binding must be disable, prefer or require"),
        (f"postgresql://{HOST}?sslmode=disable&channel_binding=require", "sslmode allows no TLS, and another"),
        (f"postgresql://{HOST}?sslnegotiation=direct", "goes with sslmode=require"),
        (f"postgresql://{HOST}?gssencmode=require", "gssencmode must be disable or prefer"),
        (f"postgresql://{HOST}?client_encoding=latin1", "client_encoding must be utf8"),
        (f"postgresql://{HOST}?target_session_attrs=standby", "must be any, read-write or primary: chatcore writes"),
        (f"postgresql://{HOST}?connect_timeout=soon", "connect_timeout must be a whole number from 0 to 300"),
        (f"postgresql://{HOST}?connection_limit=0", "connection_limit must be a whole number from 1 to "),
        ("postgresql://u:s3cret@a:1,b:x/x", "hosts are written as in postgresql://user:password@a:5432,b:5432/name"),
        ("postgresql://u:s3cret@a,b/x?port=1,2,3", "hosts are written as in"),
        ("postgresql://u:s3cret@a:0,b/x", "port must be a whole number from 1 to 65535"),
        ("postgresql://u:s3cret@a,b/x?host=c", "twice where"),
        ("postgresql://u:s3cret@h:port/x", "not a database URL; write for example"),
        ("mysql://u:s3cret@a,b/x", "names one host; in front of several stands a proxy"),
        (f"mysql://{HOST}?charset=latin1", "charset must be utf8mb4, or be left out"),
        (f"mysql://{HOST}?collation=latin1_bin", "collation must be one of utf8mb4"),
        (f"mysql://{HOST}?ssl_verify_cert=perhaps", "ssl_verify_cert must be true or false"),
        (f"mysql+odd://{HOST}", "starts with sqlite:///, mysql://, mariadb:// or postgresql://, not mysql+odd://"),
        (f"mongodb://{HOST}", "starts with sqlite:///, mysql://, mariadb:// or postgresql://, not mongodb://"),
        ("u:s3cret@h/x", "not a database URL; it starts with sqlite:///"),
        ("sqlite:///x.db?mode=ro", "'mode' is not known; it has none"),
        (f"mysql://{HOST}?tls=perhaps", "tls must be true, skip-verify or false"),
        (f"mysql://{HOST}?useSSL=perhaps", "useSSL must be true or false"),
        (f"mysql://{HOST}?autocommit=false", "autocommit must be true, or be left out"),
        (f'mysql://{HOST}?ssl={{"ca":"x"}}', "ssl-mode must be DISABLED, REQUIRED, "),
        (f"postgresql://{HOST}?ssl_min_protocol_version=TLSv1.3", "must be TLSv1.2, or be left out"),
        ("jdbc:postgresql://u:s3cret@h/x", "not a database URL; it starts with sqlite:///"),
        ("psql -h h -U u", "not a database URL; it starts with sqlite:///"),
        (f"mysql://{HOST}?ssl=maybe", "ssl-mode must be DISABLED, REQUIRED, VERIFY_CA or VERIFY_IDENTITY"),
        (f"mysql://{HOST}?ssl-mode=PREFERRED", "ssl-mode must be DISABLED, REQUIRED, VERIFY_CA or VERIFY_IDENTITY"),
        (f"mysql://{HOST}?ssl-mode=prefer", "ssl-mode must be DISABLED, REQUIRED, VERIFY_CA or VERIFY_IDENTITY"),
        (f"postgresql://{HOST}?sslmode=allow", "sslmode must be disable, prefer, require, verify-ca or verify-full"),
        (f"postgresql://{HOST}?sslmode=prefer&sslrootcert=/x", "sslmode=prefer may fall back to no TLS"),
        (f"mysql://{HOST}?ssl_ca=/a&ssl-ca=/b", "'ssl-ca' twice"),
        (f"mysql://{HOST}?ssl=true&ssl=false", "'ssl' twice"),
        (f"mysql://{HOST}?ssl-ca=/no/such.pem", "ssl-ca=/no/such.pem: No such file"),
        (f"postgresql://{HOST}?sslcert=/no/such.pem", "sslcert=/no/such.pem: No such file"),
        (f"mysql://{HOST}?ssl-key=/no/such.pem", "ssl-key goes with ssl-cert"),
        ("mysql://u:s3cret@part@h/x", "one @"),
    ],
)
def test_what_does_not_hold_is_said_without_the_password(url: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as refused:
        Database(url)
    assert sentence in str(refused.value)
    for secret in ("s3cret", "part"):
        assert secret not in str(refused.value)


def test_a_file_that_is_no_certificate_is_said(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(ValueError, match=r"ssl-ca=.*/ca\.pem: .*certificate"):
        Database(f"mysql://{HOST}?ssl-ca={tmp_path}/ca.pem")
    with pytest.raises(ValueError, match=r"ssl-cert=.*/ca\.pem: .*PEM"):
        Database(f"mysql://{HOST}?ssl-cert={tmp_path}/ca.pem")


# ---- drivers ---------------------------------------------------------------------------------------------

DRIVERS = {"sqlite": "aiosqlite", "mysql": "asyncmy", "mariadb": "asyncmy", "postgresql": "asyncpg"}


@pytest.mark.parametrize("scheme", DRIVERS)
def test_a_driver_that_is_missing_is_named_with_its_extra(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, DRIVERS[scheme], None)
    extra = "mysql" if scheme == "mariadb" else scheme
    with pytest.raises(ModuleNotFoundError) as raised:
        Database("sqlite://" if scheme == "sqlite" else f"{scheme}://{HOST}")
    said = f"this database needs the driver {DRIVERS[scheme]}: pip install 'chatcore[{extra}]'"
    assert (str(raised.value), raised.value.name) == (said, DRIVERS[scheme])


def test_the_package_needs_no_driver_until_a_database_is_opened() -> None:
    missing = f"import sys; sys.modules.update(dict.fromkeys({[*DRIVERS.values()]}))"
    subprocess.run([sys.executable, "-c", f"{missing}; import chatcore_sql"], check=True)
