"""A PostgreSQL for Kong and the policies: one of one's own in a temporary folder, or the one that a URL names."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tenantgate.devhost.processes import Child, wait_for
from tenantgate.devhost.redis_server import free_port
from tenantgate.errors import ConfigError, EdgeError

__all__ = ["PostgresServer", "find", "kong_settings", "with_password"]

_START_S: Final = 30.0
_NAME: Final = "tenantgate"
_DEBIAN: Final = Path("/usr/lib/postgresql")
_VERIFIED: Final = ("verify-ca", "verify-full")


def find(environ: Mapping[str, str] | None = None) -> Path:
    """The folder of PostgreSQL's programs: ``POSTGRES_BIN``, that of the `postgres` on PATH, or Debian's newest.

    Raises:
        ConfigError: there is none.
    """
    env = os.environ if environ is None else environ
    on_path = shutil.which("postgres", path=env.get("PATH"))
    debian = sorted(
        _DEBIAN.glob("*/bin"), key=lambda p: [int(n) for n in p.parent.name.split(".") if n.isdigit()]
    )
    candidates = [
        env.get("POSTGRES_BIN"),
        on_path and str(Path(on_path).resolve().parent),
        *map(str, debian[::-1]),
    ]
    for folder in filter(None, candidates):
        if all((Path(folder) / name).is_file() for name in ("initdb", "postgres")):
            return Path(folder)
    raise ConfigError(
        "no PostgreSQL found: install its server, or set POSTGRES_BIN to the folder of its programs"
    )


def kong_settings(url: str) -> dict[str, str]:
    """Kong's settings for the database of a URL, as variables of its environment.

    Raises:
        ConfigError: psycopg isn't installed, or the URL can't be read; it is never quoted.
    """
    given = _psycopg_settings(url)
    found = {
        "KONG_PG_HOST": given.get("host", "127.0.0.1"),
        "KONG_PG_PORT": given.get("port", "5432"),
        "KONG_PG_USER": given.get("user", "kong"),
        "KONG_PG_DATABASE": given.get("dbname", given.get("user", "kong")),
    }
    if password := given.get("password"):
        found["KONG_PG_PASSWORD"] = password
    mode = given.get("sslmode", "prefer")
    if mode in ("require", *_VERIFIED):
        found |= {"KONG_PG_SSL": "on", "KONG_PG_SSL_REQUIRED": "on"}
    if mode in _VERIFIED:
        found["KONG_PG_SSL_VERIFY"] = "on"
    return found


def with_password(url: str) -> str:
    """A URL with the user and password that libpq would take, since Kong looks for neither.

    The password is the URL's own, else ``PGPASSWORD``, else that of a line of ``~/.pgpass``
    (https://www.postgresql.org/docs/current/libpq-pgpass.html). Every user of the machine sees one in an argument.

    Raises:
        ConfigError: psycopg isn't installed, or the URL can't be read; it is never quoted.
    """
    _psycopg_settings(url)
    # It reads environment and files before it connects, and waits for no answer.
    connection = _psycopg().pq.PGconn.connect_start(url.encode())
    user, password = os.fsdecode(connection.user), os.fsdecode(connection.password)
    connection.finish()
    parts = urllib.parse.urlsplit(url)
    if parts.password or not password or "password" in urllib.parse.parse_qs(parts.query):
        return url
    quoted = [urllib.parse.quote(text, safe="") for text in (user, password)]
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{':'.join(quoted)}@{host}").geturl()


def _psycopg_settings(url: str) -> dict[str, str]:
    psycopg = _psycopg()
    try:
        given = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.Error:
        raise ConfigError(
            "--postgres: the URL can't be read; must be postgresql://USER@HOST/DATABASE"
        ) from None
    return {name: str(value) for name, value in given.items()}


def _psycopg() -> Any:
    try:
        import psycopg
    except ImportError:
        raise ConfigError("PostgreSQL needs an extra: pip install 'tenantgate[postgres]'") from None
    return psycopg


class PostgresServer:
    """A server on a loopback port with a password that nobody else knows, and the database ``tenantgate``.

    Its data lie in a temporary folder, which goes when it stops. As root it runs as ``postgres`` or ``nobody``, because
    PostgreSQL refuses to run as root.
    """

    def __init__(self, *, log: Path, binaries: Path | None = None) -> None:
        self._binaries = binaries or find()
        self._log = log
        self._password = secrets.token_urlsafe(24)
        self._identity = _identity()
        self.port = free_port()
        self._folder: Path | None = None
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """Of the database; holds the password."""
        return self._url(_NAME)

    def _url(self, database: str) -> str:
        return f"postgresql://{_NAME}:{urllib.parse.quote(self._password)}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it, and wait until it answers.

        Raises:
            EdgeError: it didn't.
        """
        self._folder = Path(tempfile.mkdtemp(prefix="tgpg-"))
        if self._identity:
            os.chown(self._folder, self._identity["user"], self._identity["group"])
        try:
            self._start(self._folder)
        except BaseException:
            self.stop()
            raise

    def _start(self, folder: Path) -> None:
        data = folder / "data"
        password = folder / "password"
        password.touch(mode=0o600)
        password.write_text(self._password)
        if self._identity:
            os.chown(password, self._identity["user"], self._identity["group"])
        argv = [
            str(self._binaries / "initdb"),
            "--pgdata",
            str(data),
            "--username",
            _NAME,
            "--pwfile",
            str(password),
        ]
        argv += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd="/", **self._identity)
        password.unlink()
        if done.returncode != 0:
            self._log.write_text(done.stdout + done.stderr, encoding="utf-8")
            raise EdgeError(f"initdb: see {self._log}")
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": 200,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        argv = [str(self._binaries / "postgres"), "-D", str(data), *options]
        self._child = Child(
            "PostgreSQL", argv, log=self._log, foreign=True, identity={"cwd": "/", **self._identity}
        )
        wait_for(self._answers, self._child, what="PostgreSQL", timeout_s=_START_S)
        self.execute(f"CREATE DATABASE {_NAME}", database="postgres")

    def _answers(self) -> bool | None:
        psycopg = _psycopg()
        with contextlib.suppress(psycopg.Error):
            self.execute("SELECT 1", database="postgres")
            return True
        return None

    def execute(self, statement: str, *, database: str = _NAME) -> None:
        """Run one statement."""
        with _psycopg().connect(self._url(database), autocommit=True, connect_timeout=2) as db:
            db.execute(statement)

    def stop(self) -> None:
        """End it, and remove its data."""
        if self._child is not None:
            self._child.stop()
            self._child = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def _identity() -> dict[str, Any]:
    """Arguments of `subprocess.Popen` for a user that isn't root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise ConfigError("PostgreSQL doesn't run as root, and there is no user postgres or nobody")
