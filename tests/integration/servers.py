"""Database servers of the tests' own, which have TLS and passwords and may be stopped: on a free port, in a folder that
is deleted afterwards. Where a server's programs are not installed its tests are skipped; in CI they fail.
"""

import asyncio
import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy.exc import DBAPIError

from integration.databases import execute

USER, PASSWORD = "chat", "geh%40im"  # as in a URL: the password is geh@im
_PROGRAMS = {"mysql": ("mariadb-install-db", "mariadbd"), "postgresql": ("initdb", "postgres")}


@dataclass
class DatabaseServer:
    """Its certificate is for `localhost`, and not for 127.0.0.1."""

    kind: str
    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def url(self, parameters: str = "", *, host: str = "127.0.0.1", database: str = "chat", login: str = "") -> str:
        return f"{self.kind}://{login or f'{USER}:{PASSWORD}'}@{host}:{self.port}/{database}" + (
            f"?{parameters.format(folder=self.folder)}" if parameters else ""
        )

    def start(self, *, tls: bool = True) -> None:
        command = _mariadbd(self, tls=tls) if self.kind == "mysql" else _postgres(self, tls=tls)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, user=_user(self.kind))
        base = "information_schema" if self.kind == "mysql" else "postgres"
        deadline = time.monotonic() + 30
        while True:
            try:
                asyncio.run(execute(self.url(database=base), "SELECT 1"))
            except (DBAPIError, OSError) as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"{command[0]} did not start: {error}\n{(self.folder / 'log').read_text()}")
                time.sleep(0.1)
            else:
                return

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextmanager
def database_server(kind: str) -> Iterator[DatabaseServer]:
    """One that runs, with an empty database `chat`."""
    for program in _PROGRAMS[kind]:
        if not _found(program):
            problem = f"no {program} here: the package of the {kind} server has it"
            pytest.fail(problem) if os.environ.get("CI") else pytest.skip(problem)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="chatcore-"))  # not pytest's: that may be closed to other users
    server = DatabaseServer(kind, folder, port)
    try:
        make_certificates(folder)
        _initialize(server)
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


def _initialize(server: DatabaseServer) -> None:
    folder, user = server.folder, _user(server.kind)
    password = PASSWORD.replace("%40", "@")
    if server.kind == "mysql":
        (folder / "init.sql").write_text(
            f"CREATE USER IF NOT EXISTS {USER} IDENTIFIED BY '{password}';\n"
            f"GRANT ALL ON *.* TO {USER} WITH GRANT OPTION;\n"
            "CREATE USER IF NOT EXISTS certified REQUIRE X509;\n"
            "CREATE DATABASE IF NOT EXISTS chat;\n"
        )
        arguments = ["--no-defaults", f"--datadir={folder}/data", f"--user={pwd.getpwuid(os.geteuid()).pw_name}"]
    else:
        (folder / "password").write_text(password)
        arguments = ["-D", f"{folder}/data", "-U", USER, "-A", "scram-sha-256", "--pwfile", f"{folder}/password"]
    if user is not None:
        for path in (folder, *folder.iterdir()):
            os.chown(path, user, -1)
    command = [_found(_PROGRAMS[server.kind][0]), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, user=user, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    if server.kind == "postgresql":
        server.start()
        asyncio.run(execute(server.url(database="postgres"), "CREATE DATABASE chat"))
        server.stop()


def _mariadbd(server: DatabaseServer, *, tls: bool) -> list[str]:
    folder = server.folder
    return [
        _found("mariadbd"),
        "--no-defaults",
        f"--user={pwd.getpwuid(os.geteuid()).pw_name}",
        f"--datadir={folder}/data",
        f"--init-file={folder}/init.sql",
        "--bind-address=127.0.0.1",
        "--skip-name-resolve",  # else 127.0.0.1 is localhost, where everybody is the anonymous user
        f"--port={server.port}",
        f"--socket={folder}/socket",
        f"--pid-file={folder}/pid",
        *((f"--ssl-ca={folder}/ca.pem", f"--ssl-cert={folder}/server.pem", f"--ssl-key={folder}/server.key") * tls),
    ]


def _postgres(server: DatabaseServer, *, tls: bool) -> list[str]:
    folder = server.folder
    options = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": str(folder),
        "fsync": "off",
        "ssl": "on" if tls else "off",
        "ssl_ca_file": f"{folder}/ca.pem",
        "ssl_cert_file": f"{folder}/server.pem",
        "ssl_key_file": f"{folder}/server.key",
    }
    settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    return [_found("postgres"), "-D", f"{folder}/data", "-p", str(server.port), *settings]


def _user(kind: str) -> int | None:
    """PostgreSQL does not run as root."""
    if kind != "postgresql" or os.geteuid() != 0:
        return None
    with contextlib.suppress(KeyError):
        return pwd.getpwnam("postgres").pw_uid
    return pwd.getpwnam("nobody").pw_uid


def _found(program: str) -> str:
    """Its path, or nothing. Debian keeps PostgreSQL's programs aside."""
    aside = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    return shutil.which(program, path=os.pathsep.join((*aside, os.environ["PATH"], "/usr/sbin"))) or ""


def make_certificates(folder: Path) -> None:
    """`ca.pem`, which vouches for `server.pem` and `client.pem`, and `other-ca.pem`, which vouches for nothing here."""
    authority, key = _certificate(folder, "ca")
    _certificate(folder, "other-ca")
    _certificate(folder, "server", host="localhost", signed_by=(authority, key))
    _certificate(folder, "client", signed_by=(authority, key))


Signed = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def _certificate(folder: Path, name: str, *, host: str = "", signed_by: Signed | None = None) -> Signed:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"chatcore tests: {name}")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signed_by[0].subject if signed_by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=signed_by is None, path_length=None), critical=True)
    )
    if host:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    certificate = builder.sign(signed_by[1] if signed_by else key, hashes.SHA256())
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / f"{name}.key").touch(mode=0o600)
    (folder / f"{name}.key").write_bytes(private)
    return certificate, key
