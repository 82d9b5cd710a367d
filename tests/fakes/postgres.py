"""A real PostgreSQL server of the tests' own: a fresh cluster in a temporary folder, reachable by a Unix socket there and by nothing else.

PostgreSQL refuses to run as root, so tests that are root start it as another user. It ends with the process that started it.
"""

from __future__ import annotations

import getpass
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

_START_S = 30


class PostgresMissing(Exception):
    """Not installed here; the text says what to do."""


def binaries() -> Path:
    """The folder of the newest installed server. Raises PostgresMissing."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: int(p.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("postgres")
    if on_path and shutil.which("initdb"):
        return Path(on_path).resolve().parent
    raise PostgresMissing("PostgreSQL is not installed (Debian: apt-get install postgresql)")


class Postgres:
    """One cluster. `fsync` off makes it fast and no less right for tests that do not cut the power."""

    def __init__(self, *, fsync: bool = False) -> None:
        self._bin = binaries()
        self._user = _user()
        self._group = None if self._user is None else pwd.getpwnam(self._user).pw_gid
        self._groups = None if self._user is None else list[int]()
        self._fsync = fsync
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path must be short

    def __enter__(self) -> Postgres:
        try:
            if self._user is not None:
                shutil.chown(self.folder, self._user)
            self._run(
                [str(self._bin / "initdb"), "-D", str(self._data), "-U", "serai", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
            )
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGQUIT)  # nothing is to be kept, so nothing needs to be written
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def start(self) -> None:
        """Blocks until it answers. Call it on the main thread: the server ends with the thread that started it."""
        on = "on" if self._fsync else "off"
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "fsync": on,
            "full_page_writes": on,
            "shared_buffers": "64MB",
            "max_connections": "60",
            "autovacuum": "off",
        }
        command = [str(self._bin / "postgres"), "-D", str(self._data), *(f"--{k}={v}" for k, v in options.items())]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                _mortal(command), stdout=log, stderr=log, user=self._user, group=self._group, extra_groups=self._groups
            )
        deadline = time.monotonic() + _START_S
        while True:
            try:
                psycopg.connect(self._url("postgres")).close()
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self.folder / "log").read_text()) from None
                time.sleep(0.05)
            else:
                return

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends sessions and shuts down; SIGQUIT ends at once, as a crash does. Blocks until it has ended."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(_START_S)
            self._process = None

    def database(self) -> str:
        """A new, empty database; its URL."""
        name = f"t{next(self._numbers)}"
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self._url(name)

    def schema(self) -> str:
        """A new, empty schema of the one database; its URL. To the store that is a database of its own, made much quicker."""
        name = f"s{next(self._numbers)}"
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}".encode())
        return f"{self._url('postgres')}&options=-csearch_path%3D{name}"

    def _url(self, database: str) -> str:
        return f"postgresql://serai@/{database}?host={self.folder}"

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(
            command, capture_output=True, check=False, cwd=self.folder, user=self._user, group=self._group, extra_groups=self._groups
        )
        if done.returncode:
            raise RuntimeError(done.stderr.decode())


def _user() -> str | None:
    """Who the server runs as; None = as we do."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise PostgresMissing(f"PostgreSQL does not run as {getpass.getuser()}, and there is no user postgres or nobody")


def _mortal(command: list[str]) -> list[str]:
    """Ends with us, however we end."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "QUIT", *command] if setpriv else command
