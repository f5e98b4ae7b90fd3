"""Real clusters of three database servers on this machine, behind HAProxy, each in a folder that is deleted afterwards.

Galera needs the packages `mariadb-server`, `galera-4` and `rsync`; Group Replication MySQL 8.4 or newer, as `mysqld` on
the path or unpacked in the folder that `MYSQL_TREE` names; both need `haproxy`.
"""

import asyncio
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError

from integration.databases import execute

NODES = 3
_STARTED_WITHIN = 120.0  # seconds
_GALERA = Path("/usr/lib/galera/libgalera_smm.so")
_PATH = f"{os.environ['PATH']}:/usr/sbin:/usr/libexec"  # where servers are kept


class Cluster(ABC):
    """Three servers with an empty database `chat`; each may be killed and started again."""

    client: str
    """The command that asks a node, but for its port."""
    member: str
    """What to ask it: 1 if statements may be sent to it. A node that listens need not take part yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = _free_ports(NODES)
        self._running: dict[int, subprocess.Popen[bytes]] = {}

    @staticmethod
    @abstractmethod
    def missing() -> str | None:
        """What has to be installed before there can be one. None: nothing."""

    @abstractmethod
    def prepare(self) -> None:
        """Make the nodes' folders."""

    @abstractmethod
    def command(self, node: int, *, first: bool) -> Sequence[str]:
        """What starts a node; `first`: of a cluster that does not exist yet."""

    @abstractmethod
    async def joined(self, node: int) -> bool:
        """Whether the node takes part in the cluster."""

    @abstractmethod
    def url(self, port: int, database: str = "chat") -> str: ...

    def own(self, node: int) -> Path:
        """The node's folder."""
        own = self.folder / str(node)
        if not own.exists():
            own.mkdir()
            shutil.chown(own, _user())
        return own

    async def up(self) -> None:
        self.prepare()
        for node in range(NODES):
            await self.start(node, first=node == 0)
        await execute(self.url(self.ports[0], ""), "CREATE DATABASE IF NOT EXISTS chat CHARACTER SET utf8mb4")

    async def start(self, node: int, *, first: bool = False) -> None:
        self._launch(node, first=first)
        await self._until_joined(node)

    def kill(self, node: int) -> None:
        process = self._running.pop(node)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def down(self) -> None:
        for node in list(self._running):
            self.kill(node)

    def _launch(self, node: int, *, first: bool) -> None:
        with (self.folder / f"{node}.out").open("ab") as out:
            self._running[node] = subprocess.Popen(self.command(node, first=first), stdout=out, stderr=out)

    async def _until_joined(self, node: int) -> None:
        deadline = time.monotonic() + _STARTED_WITHIN
        while not await self._answers(node):
            if self._running[node].poll() is not None or time.monotonic() > deadline:
                log = "".join(
                    (self.folder / str(one) / "err.log").read_text(errors="replace")[-30000:] for one in range(node)
                )
                pytest.fail(f"node {node} did not join:\n{log[-20000:]}")
            await asyncio.sleep(0.2)

    async def _answers(self, node: int) -> bool:
        try:
            return await self.joined(node)
        except (DBAPIError, OSError):
            return False


class Galera(Cluster):
    """Three MariaDB nodes, all of which are written to."""

    client = "mariadb --host=127.0.0.1 --user=root"
    member = "SELECT VARIABLE_VALUE = 'ON' FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'wsrep_ready'"

    @staticmethod
    def missing() -> str | None:
        programs = ("mariadbd", "mariadb-install-db", "rsync")
        found = all(shutil.which(program, path=_PATH) for program in programs) and _GALERA.exists()
        return None if found else "three Galera nodes need the packages mariadb-server, galera-4 and rsync"

    def prepare(self) -> None:
        self._group_ports = _free_ports(3 * NODES)
        for node in range(NODES):
            _run(
                "mariadb-install-db",
                "--no-defaults",
                f"--datadir={self.own(node)}/data",
                f"--user={_user()}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            )

    def command(self, node: int, *, first: bool) -> Sequence[str]:
        own, (group, incremental, snapshot) = self.own(node), self._ports_of(node)
        everybody = ",".join(f"127.0.0.1:{self._ports_of(other)[0]}" for other in range(NODES))
        options = {
            "user": _user(),
            "datadir": f"{own}/data",
            "socket": f"{own}/socket",
            "pid-file": f"{own}/pid",
            "log-error": f"{own}/err.log",
            "bind-address": "127.0.0.1",
            "port": self.ports[node],
            "binlog-format": "ROW",
            "innodb-autoinc-lock-mode": 2,
            "innodb-flush-log-at-trx-commit": 0,
            "innodb-buffer-pool-size": "64M",
            "wsrep-on": "ON",
            "wsrep-provider": _GALERA,
            "wsrep-cluster-name": "chat",
            "wsrep-cluster-address": f"gcomm://{everybody}",
            "wsrep-node-address": f"127.0.0.1:{group}",
            "wsrep-provider-options": f"base_port={group};gmcast.listen_addr=tcp://127.0.0.1:{group};"
            f"ist.recv_addr=127.0.0.1:{incremental};gcache.size=32M",
            "wsrep-sst-method": "rsync",
            "wsrep-sst-receive-address": f"127.0.0.1:{snapshot}",
            "wsrep-sync-wait": 7,  # what one node has acknowledged is there on every other
        }
        lines = (f"{name}={value}" for name, value in options.items())
        (own / "my.cnf").write_text("\n".join(("[mysqld]", *lines, "")))  # the scripts that copy a node read it, too
        program = shutil.which("mariadbd", path=_PATH) or "mariadbd"
        return [program, f"--defaults-file={own}/my.cnf", *(["--wsrep-new-cluster"] if first else [])]

    async def joined(self, node: int) -> bool:
        rows = await execute(self.url(self.ports[node], ""), "SHOW STATUS LIKE 'wsrep_ready'")
        return bool(rows) and rows[0][1] == "ON"

    def url(self, port: int, database: str = "chat") -> str:
        return f"mysql://root@127.0.0.1:{port}/{database}"

    def _ports_of(self, node: int) -> list[int]:
        return self._group_ports[3 * node : 3 * node + 3]


class GroupReplication(Cluster):
    """Three MySQL servers in one group, all of which are primaries."""

    client = "mariadb --host=127.0.0.1 --user=chat --password=chat --skip-ssl"
    _AT_ONCE = "SET group_replication_consistency = 'EVENTUAL'"
    member = (
        f"{_AT_ONCE}; "
        "SELECT member_state = 'ONLINE' FROM performance_schema.replication_group_members "
        "WHERE member_id = @@server_uuid"
    )
    _GROUP = "0b2ae4b0-3b1f-4e0e-9d0c-6f1a4a0c7f11"

    @staticmethod
    def missing() -> str | None:
        return None if _mysqld() else "Group Replication needs mysqld 8.4 or newer: on the path, or below MYSQL_TREE"

    def prepare(self) -> None:
        self._group_ports = _free_ports(NODES)
        for node in range(NODES):
            first_words = self.own(node) / "init.sql"
            first_words.write_text(
                "SET SQL_LOG_BIN=0;\n"
                "CREATE USER 'chat'@'%' IDENTIFIED WITH caching_sha2_password BY 'chat';\n"
                "GRANT ALL ON *.* TO 'chat'@'%';\n"
                "GRANT BACKUP_ADMIN, CONNECTION_ADMIN, GROUP_REPLICATION_STREAM ON *.* TO 'chat'@'%';\n"
            )
            _run(*_mysqld(), "--initialize-insecure", *self._basics(node), f"--init-file={first_words}")

    def command(self, node: int, *, first: bool) -> Sequence[str]:
        seeds = ",".join(f"127.0.0.1:{port}" for port in self._group_ports)
        options = {
            "bind-address": "127.0.0.1",
            "port": self.ports[node],
            "report-host": "127.0.0.1",
            "report-port": self.ports[node],
            "server-id": node + 1,
            "super-read-only": "ON",  # until it is a member again: what it wrote alone would keep it out
            "gtid-mode": "ON",
            "enforce-gtid-consistency": "ON",
            "sync-binlog": 0,
            "innodb-flush-log-at-trx-commit": 2,  # what it has said must outlive it
            "innodb-buffer-pool-size": "64M",
            "plugin-load-add": "group_replication.so",
            "loose-group-replication-group-name": self._GROUP,
            "loose-group-replication-local-address": f"127.0.0.1:{self._group_ports[node]}",
            "loose-group-replication-group-seeds": seeds,
            "loose-group-replication-start-on-boot": "OFF",
            "loose-group-replication-single-primary-mode": "OFF",
            "loose-group-replication-ip-allowlist": "127.0.0.1/8",
            "loose-group-replication-recovery-get-public-key": "ON",
            "loose-group-replication-member-expel-timeout": 0,  # until then the others write some thirty times a second
            "loose-group-replication-consistency": "BEFORE",  # what one server has acknowledged is there on every other
        }
        given = (f"--{name}={value}" for name, value in options.items())
        return [*_mysqld(), *self._basics(node), "--mysqlx=OFF", *given]

    async def start(self, node: int, *, first: bool = False) -> None:
        self._launch(node, first=first)
        while not await self._listens(node):
            assert self._running[node].poll() is None, (self.folder / str(node) / "err.log").read_text()[-3000:]
            await asyncio.sleep(0.2)
        await self._until_expelled(node)
        known = "CHANGE REPLICATION SOURCE TO SOURCE_USER='chat', SOURCE_PASSWORD='chat' FOR CHANNEL"
        statements = [f"{known} 'group_replication_recovery'", "START GROUP_REPLICATION"]
        bootstrap = "SET GLOBAL group_replication_bootstrap_group = "
        if first:
            statements = [f"{bootstrap}ON", *statements, f"{bootstrap}OFF"]
        await execute(self.url(self.ports[node], ""), *statements)
        await self._until_joined(node)

    async def _until_expelled(self, node: int) -> None:
        """Each try of a killed member to come back is a sign of life to the others, who then do not expel the one that
        it was, and let no second one in."""
        deadline = time.monotonic() + _STARTED_WITHIN
        for other in self._running.keys() - {node}:
            while await self._states(other, node):
                assert time.monotonic() < deadline, f"node {node} was not expelled"
                await asyncio.sleep(0.2)

    async def joined(self, node: int) -> bool:
        return await self._states(node, node) == ["ONLINE"]

    async def _states(self, asked: int, node: int) -> list[str]:
        """What one node says of another."""
        query = (
            "SELECT member_state FROM performance_schema.replication_group_members "
            f"WHERE member_port = {self.ports[node]}"
        )
        return [row[0] for row in await execute(self.url(self.ports[asked], ""), self._AT_ONCE, query)]

    def url(self, port: int, database: str = "chat") -> str:
        return f"mysql://chat:chat@127.0.0.1:{port}/{database}"

    async def _listens(self, node: int) -> bool:
        try:
            return bool(await execute(self.url(self.ports[node], ""), "SELECT 1"))
        except (DBAPIError, OSError):
            return False

    def _basics(self, node: int) -> list[str]:
        own = self.own(node)
        return [
            f"--user={_user()}",
            f"--datadir={own}/data",
            f"--socket={own}/socket",
            f"--pid-file={own}/pid",
            f"--log-error={own}/err.log",
        ]


@contextmanager
def balanced(cluster: Cluster) -> Iterator[str]:
    """The URL of the whole cluster: each new connection goes to a random node that is up."""
    (port,) = _free_ports(1)
    check = cluster.folder / "is-member"
    check.write_text(
        f'#!/bin/sh\n{cluster.client} --port="$4" --batch --skip-column-names -e "{cluster.member}" | grep -q 1\n'
    )
    check.chmod(0o755)
    servers = "\n".join(
        f"  server node{number} 127.0.0.1:{node} check inter 1s fall 1 rise 2 on-marked-down shutdown-sessions"
        for number, node in enumerate(cluster.ports)
    )
    config = cluster.folder / "haproxy.cfg"
    config.write_text(
        "global\n  external-check\n  insecure-fork-wanted\n"
        "defaults\n  mode tcp\n  timeout connect 2s\n  timeout client 1h\n  timeout server 1h\n  retries 3\n"
        f"  option redispatch 1\n  option external-check\n  external-check path {_PATH}\n"
        f"  external-check command {check}\nlisten chat\n  bind 127.0.0.1:{port}\n  balance random\n{servers}\n"
    )
    program = shutil.which("haproxy", path=_PATH)
    if program is None:
        pytest.fail("no haproxy here: the package haproxy has it")
    process = subprocess.Popen(
        [program, "-db", "-f", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield cluster.url(port)
    finally:
        process.kill()
        process.wait()


@contextmanager
def folder_for_servers() -> Iterator[Path]:
    """Not pytest's, whose names are too long for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="chatcore-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _user() -> str:
    """The servers' user. As root, rsync's daemon would be nobody, who may not write here."""
    return "mysql" if os.geteuid() == 0 and _exists("mysql") else pwd.getpwuid(os.geteuid()).pw_name


def _exists(user: str) -> bool:
    return any(entry.pw_name == user for entry in pwd.getpwall())


def _run(*command: str) -> None:
    path = {"PATH": _PATH}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **path})
    assert done.returncode == 0, done.stdout + done.stderr


def _mysqld() -> list[str]:
    """The command. A tree that was unpacked for another release of the system brings its own loader and libraries."""
    tree = os.environ.get("MYSQL_TREE")
    if not tree:
        found = shutil.which("mysqld", path=_PATH)
        return [found, "--no-defaults"] if found and not _is_mariadb(found) else []
    root = Path(tree).resolve()
    libraries = next(iter(sorted(root.glob("usr/lib/*-linux-gnu"))), root / "usr/lib")
    loader = next(iter(sorted(libraries.glob("ld-linux-*"))))
    return [
        str(loader),
        "--library-path",
        str(libraries),
        f"{root}/usr/sbin/mysqld",
        "--no-defaults",
        f"--basedir={root}/usr",
        f"--lc-messages-dir={root}/usr/share/mysql",
        f"--character-sets-dir={root}/usr/share/mysql/charsets",
        f"--plugin-dir={root}/usr/lib/mysql/plugin",
        "--secure-file-priv=NULL",
    ]


def _is_mariadb(program: str) -> bool:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    return "MariaDB" in said


def _free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports: list[int] = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
