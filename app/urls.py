"""Addresses of servers, parsed once into values; each library is handed its own form of them.

People paste what their provider gives: other schemes, parameters of other libraries, passwords that nobody
escaped. Parameters that mean something here are taken. Parameters that are known to mean something elsewhere
are dropped. Anything else is named. Messages never hold a password.
"""

import difflib
import re
import ssl
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

from psycopg.pq import Conninfo
from sqlalchemy import URL

from app.errors import ConfigError

TRANSACTION_POOLER_PORT = 6543
"""Supabase's."""


@dataclass(frozen=True, slots=True)
class Address:
    """The parts of an address. `hosts` are (host, port), the port None where it is not said."""

    scheme: str
    hosts: tuple[tuple[str, int | None], ...]
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    path: str = ""
    query: tuple[tuple[str, str], ...] = ()


def parse(url: str, setting: str, example: str) -> Address:
    """Split an address; raises ConfigError. A password may hold any character, escaped or not: it ends at the
    last @ before the host.
    """
    scheme, found, rest = url.strip().partition("://")
    if not found:
        scheme, rest = "", url.strip()
    login, at, tail = _split_login(rest)
    place, _, query = tail.partition("?")
    hosts, slash, path = place.partition("/")
    username, colon, password = login.partition(":")
    try:
        pairs = tuple(_host(part) for part in hosts.split(",")) if hosts else ()
    except ValueError:
        raise ConfigError(f"{setting}: the port is not a number, the form is {example}") from None
    return Address(
        scheme=scheme.lower(),
        hosts=pairs,
        username=unquote(username) if at and username else None,
        password=_unescape(password) if at and colon else None,
        path=unquote(path) if slash else "",
        query=tuple(parse_qsl(query, keep_blank_values=True)),
    )


def _split_login(rest: str) -> tuple[str, str, str]:
    """Login, @ and the rest. A query may hold an @, too; a login always comes before the host."""
    before, question, query = rest.partition("?")
    if "@" in query and ":" in before and "=" not in query.partition("@")[0]:
        return rest.rpartition("@")  # a password with a question mark
    if "@" not in before:
        return "", "", rest
    login, at, tail = before.rpartition("@")
    return login, at, tail + question + query


def _host(part: str) -> tuple[str, int | None]:
    if part.startswith("["):
        host, _, port = part[1:].partition("]")
        return host, int(port.removeprefix(":")) if port else None
    host, _, port = part.partition(":")
    return unquote(host), int(port) if port else None


def _unescape(text: str) -> str:
    """A password as it is. A percent sign that escapes nothing stands for itself."""
    return unquote(re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", text))


# PostgreSQL

POSTGRES = "postgresql://user:password@host:5432/database"
LIBPQ = frozenset(option.keyword.decode() for option in Conninfo.get_defaults()) - {
    "user",
    "password",
    "dbname",
    "application_name",
    "fallback_application_name",
    "client_encoding",
    "connect_timeout",
    "replication",
    "service",
}
HARMLESS = frozenset(
    (
        "application_name",
        "fallback_application_name",
        "client_encoding",
        "connect_timeout",
        "supa",
        "connection_limit",
        "pool_timeout",
        "pool_size",
        "max_connections",
        "statement_cache_size",
        "prepared_statement_cache_size",
        "preparethreshold",
        "sslaccept",
        "socket_timeout",
        "workaround",
        "options_reference",
        "uselibpqcompat",
        "max_idle_connection_lifetime",
        "async_fallback",
        "charset",
    )
)
"""Parameters of other libraries and tools (Prisma, asyncpg, JDBC, Supabase) that mean nothing here."""
SCHEMA_NAMES = frozenset(("schema", "currentschema", "search_path"))
SSL_NAMES = frozenset(("ssl", "ssl_mode", "ssl-mode"))


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """Where PostgreSQL is. `is_pooled`: a transaction pooler is before it, so nothing may be prepared."""

    address: Address
    options: tuple[tuple[str, str], ...]
    is_pooled: bool

    @property
    def sqlalchemy(self) -> URL:
        """The form of SQLAlchemy with psycopg."""
        options: dict[str, Any] = dict(self.options)
        host, port = self.address.hosts[0] if self.address.hosts else (None, None)
        if len(self.address.hosts) > 1:
            options["host"] = ",".join(host for host, _ in self.address.hosts)
            options["port"] = ",".join(str(port or 5432) for _, port in self.address.hosts)
            options.setdefault("target_session_attrs", "read-write")
            host = port = None
        return URL.create(
            "postgresql+psycopg",
            self.address.username,
            self.address.password,
            host or None,
            port,
            self.address.path or None,
            options,
        )


def parse_database(url: str, setting: str = "DATABASE_URL") -> DatabaseUrl:
    """Parse the address of PostgreSQL; raises ConfigError."""
    address = parse(url, setting, POSTGRES)
    base, _, _ = address.scheme.partition("+")
    if base not in ("postgres", "postgresql"):
        given = f"not {base}" if base else "and begin with it"
        raise ConfigError(f"{setting} must be {POSTGRES}, {given}")
    options: dict[str, str] = {}
    pooler = ""
    for name, value in address.query:
        lower = name.lower()
        if lower == "pooler":
            pooler = value
        elif lower == "pgbouncer":
            pooler = "transaction" if value.lower() in ("true", "1", "yes", "") else pooler
        elif lower in SSL_NAMES:
            options["sslmode"] = {"true": "require", "1": "require", "false": "disable"}.get(value, value)
        elif lower in SCHEMA_NAMES or lower in HARMLESS:
            continue  # Paceline's tables are in a schema of their own
        elif lower in LIBPQ:
            options[lower] = value
        else:
            near = difflib.get_close_matches(lower, [*LIBPQ, "pooler"], n=1)
            hint = f"did you mean {near[0]}?" if near else "libpq has no such parameter"
            raise ConfigError(f"{setting}: unknown parameter {name[:60]!r}, {hint}")
    if pooler not in ("", "transaction", "session"):
        raise ConfigError(f"{setting}: pooler is transaction or session, not {pooler!r}")
    ports = {port for _, port in address.hosts}
    is_pooled = pooler == "transaction" or (not pooler and TRANSACTION_POOLER_PORT in ports)
    return DatabaseUrl(replace(address, query=()), tuple(options.items()), is_pooled)


# Redis

REDIS = "redis://:password@host:6379/0"
SENTINEL = "redis+sentinel://:password@host:26379,host:26379/master/0"
_SCHEMES = {
    "": "redis",
    "redis": "redis",
    "valkey": "redis",
    "rediss": "rediss",
    "valkeys": "rediss",
    "unix": "unix",
    "redis+socket": "unix",
    "redis+unix": "unix",
    "redis+sentinel": "sentinel",
    "valkey+sentinel": "sentinel",
}
_CERTIFICATES = {
    "none": ssl.CERT_NONE,
    "cert_none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "cert_optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
    "cert_required": ssl.CERT_REQUIRED,
}
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """Where Redis or Valkey is. `socket` is a path; `master` is set when sentinels are asked; `tls` has the
    arguments of redis-py, None without TLS.
    """

    hosts: tuple[tuple[str, int], ...]
    db: int
    username: str | None
    password: str | None = field(repr=False)
    socket: str | None = None
    master: str | None = None
    tls: tuple[tuple[str, Any], ...] | None = None

    @property
    def client(self) -> dict[str, Any]:
        """The arguments of a redis-py connection to one server."""
        login = {"username": self.username, "password": self.password, "db": self.db}
        if self.socket:
            return login | {"path": self.socket}
        host, port = self.hosts[0]
        return login | {"host": host, "port": port} | dict(self.tls or ())

    @property
    def broker(self) -> str:
        """The form of Celery's broker, without TLS: that is a setting beside it."""
        login = ""
        if self.username or self.password:
            login = f"{quote(self.username or '', safe='')}:{quote(self.password or '', safe='')}@"
        if self.socket:
            query = urlencode({"virtual_host": self.db})
            return f"redis+socket://{login}{self.socket}?{query}"
        scheme = "sentinel" if self.master else "rediss" if self.tls is not None else "redis"
        urls = (
            f"{scheme}://{login}{f'[{host}]' if ':' in host else host}:{port}/{self.db}"
            for host, port in self.hosts
        )
        return ";".join(urls)


def parse_redis(url: str, setting: str = "REDIS_URL") -> RedisUrl:
    """Parse the address of Redis; raises ConfigError."""
    address = parse(url, setting, REDIS)
    kind = _SCHEMES.get(address.scheme)
    if kind is None:
        raise ConfigError(f"{setting} must be {REDIS} or {SENTINEL}, not {address.scheme[:20]}://...")
    query = {name.lower(): value for name, value in address.query}
    tls = _tls(query, setting) if kind == "rediss" or any(n.startswith("ssl_") for n in query) else None
    known = {"db", "virtual_host", "ssl_cert_reqs", "ssl_check_hostname", *_FILES}
    passed_over = {
        "protocol",
        "socket_timeout",
        "socket_connect_timeout",
        "max_connections",
        "decode_responses",
        "health_check_interval",
        "client_name",
        "timeout",
        "family",
    }
    if unknown := sorted(set(query) - known - passed_over):
        raise ConfigError(f"{setting}: unknown parameter {unknown[0][:60]!r}")
    given_db = query.get("db", query.get("virtual_host"))
    if kind == "unix":
        path = "/" + address.path if not address.hosts else f"/{address.hosts[0][0]}/{address.path}"
        return RedisUrl((), _db(given_db or "0", setting), address.username, address.password, socket=path)
    master, _, last = address.path.partition("/") if kind == "sentinel" else (None, "", address.path)
    default_port = 26379 if kind == "sentinel" else 6379
    hosts = tuple((host, port or default_port) for host, port in address.hosts if host)
    if kind == "sentinel" and not (master and hosts):
        raise ConfigError(f"{setting} is no {SENTINEL}")
    if kind != "sentinel" and len(hosts) > 1:
        raise ConfigError(f"{setting}: several hosts need sentinels, {SENTINEL}")
    return RedisUrl(
        hosts or (("127.0.0.1", default_port),),
        _db(given_db or last or "0", setting),
        address.username,
        address.password,
        master=master,
        tls=tls,
    )


def _db(text: str, setting: str) -> int:
    if not (text.strip("/").isascii() and text.strip("/").isdigit()):
        raise ConfigError(f"{setting}: the database of Redis is a number, like .../0, not {text[:40]!r}")
    return int(text.strip("/"))


def _tls(query: dict[str, str], setting: str) -> tuple[tuple[str, Any], ...]:
    wanted = query.get("ssl_cert_reqs", "required").lower()
    if wanted not in _CERTIFICATES:
        raise ConfigError(f"{setting}: ssl_cert_reqs is required, optional or none, not {wanted[:40]!r}")
    is_checked = query.get("ssl_check_hostname", "true").lower() not in ("false", "0", "no")
    found: dict[str, Any] = {
        "ssl": True,
        "ssl_cert_reqs": _CERTIFICATES[wanted],
        "ssl_check_hostname": is_checked and _CERTIFICATES[wanted] == ssl.CERT_REQUIRED,
    }
    found |= {name: query[name] for name in _FILES if name in query}
    return tuple(found.items())
