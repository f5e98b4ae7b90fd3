"""What is made of the parameters of a database URL, and what is refused."""

import ssl
from pathlib import Path

import pytest

from chatcore_sql import Database
from chatcore_sql.tls import tls_of
from chatcore_sql.url import engine_url

HOST = "u:s3cret@h/x"


@pytest.mark.parametrize(
    ("url", "argument"),
    [
        (f"mysql://{HOST}", {}),
        (f"mysql://{HOST}?ssl=false", {}),
        (f"mysql://{HOST}?ssl-mode=DISABLED&ssl-ca=/nowhere", {}),
        (f"postgresql://{HOST}", {}),
        (f"postgresql://{HOST}?sslmode=prefer", {"ssl": "prefer"}),
        (f"postgresql://{HOST}?sslmode=disable", {"ssl": False}),
    ],
)
def test_no_tls_or_what_the_driver_does(url: str, argument: dict[str, object]) -> None:
    bare, tls = tls_of(engine_url(url))
    assert tls == argument
    assert not bare.query


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
    ],
)
def test_how_much_is_verified(url: str, verify: ssl.VerifyMode, host: bool) -> None:
    context = tls_of(engine_url(url))[1]["ssl"]
    assert (context.verify_mode, context.check_hostname) == (verify, host)


@pytest.mark.parametrize("query", ["unix_socket=/run/mysqld.sock", "unix_socket=/run/mysqld.sock&ssl=true"])
def test_a_socket_is_left_to_the_driver(query: str) -> None:
    assert tls_of(engine_url(f"mysql://{HOST}?{query}"))[0].query == {"unix_socket": "/run/mysqld.sock"}


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        (f"mysql://{HOST}?sslaccept=strict", "'sslaccept' is not known; it may have ssl, ssl-mode, ssl-ca, "),
        (f"postgresql://{HOST}?channel_binding=require", "'channel_binding' is not known; it may have ssl, sslmode, "),
        ("sqlite:///x.db?mode=ro", "'mode' is not known; it has none"),
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
