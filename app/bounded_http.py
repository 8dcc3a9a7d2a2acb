"""HTTP with an end: one deadline for connect, headers and body, and a bound on the decoded size.

httpx has a timeout for each read. So a server that sends one byte a second, or `102 Processing` for ever,
holds a thread without end. And httpx decodes a compressed answer without a bound: 1 MB can become a gigabyte.
"""

import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from ipaddress import IPv6Address, ip_address
from typing import Any

import httpcore2
import httpx2
from httpcore2 import SOCKET_OPTION, NetworkBackend, NetworkStream

from app.clock import monotonic

PLAIN = {"Accept-Encoding": "identity"}
"""Headers that ask for an answer without compression; a gzip answer is read all the same."""


@cache
def _ssl_context() -> ssl.SSLContext:
    """Reading all certificates takes 60 ms, and every client can share them."""
    return httpx2.create_ssl_context(trust_env=False)


class BoundedTransport(httpx2.HTTPTransport):
    """A transport for clients that are shared between threads. Raises ReadTimeout (or ConnectTimeout) when a
    whole request takes longer than `total_s`, and ReadError when more than `bytes_max` come or the body
    breaks off. Return as much of an error's body as can be read: its status counts. `allows`: whether an IP
    address may be connected to.
    """

    def __init__(
        self,
        *,
        total_s: float,
        bytes_max: int,
        connections: int = 10,
        allows: Callable[[str], bool] | None = None,
    ) -> None:
        super().__init__(trust_env=False)
        self._pool.close()
        self._total_s = total_s
        self._bytes_max = bytes_max
        self._deadline = _Deadline()
        self._pool = httpcore2.ConnectionPool(
            ssl_context=_ssl_context(),
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=30,  # a new connection would make a call late
            network_backend=_Backend(self._deadline, allows),
        )

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send it; the deadline of this thread begins now."""
        self._deadline.at = at = monotonic() + self._total_s
        response = super().handle_request(request)
        assert isinstance(response.stream, httpx2.SyncByteStream)
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        encoding = encoding.removeprefix("x-")
        is_ok = response.status_code < 400
        if encoding not in ("identity", "", "gzip", "deflate"):
            response.stream.close()
            if not is_ok:  # its status says enough
                del response.headers["content-encoding"]
                response.stream = httpx2.ByteStream(b"")
                return response
            raise httpx2.DecodingError(f"answer in {encoding[:40]!r}, not in plain", request=request)
        is_packed = encoding in ("gzip", "deflate")
        if is_packed:  # decoded here, where it has a bound
            del response.headers["content-encoding"]
        stream = _Bounded(response.stream, request, self._bytes_max, is_packed, is_ok)
        response.stream = _Timed(stream, self._deadline, at)
        return response


class _Deadline(threading.local):
    """When the request of this thread must be over, on the monotonic clock."""

    at: float = float("inf")

    def left(self, timeout: float | None, error: type[Exception]) -> float:
        """The timeout of one operation; raises `error` when there is no time left."""
        left = self.at - monotonic()
        if left <= 0:
            raise error("the whole answer took too long")
        return left if timeout is None else min(timeout, left)


class _Stream(NetworkStream):
    """A connection whose every read and write ends at the deadline."""

    def __init__(self, inner: NetworkStream, deadline: _Deadline) -> None:
        self._inner = inner
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._deadline.left(timeout, httpcore2.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._deadline.left(timeout, httpcore2.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> NetworkStream:
        left = self._deadline.left(timeout, httpcore2.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(NetworkBackend):
    """Opens connections that know the deadline."""

    def __init__(self, deadline: _Deadline, allows: Callable[[str], bool] | None) -> None:
        self._inner = httpcore2.SyncBackend()
        self._deadline = deadline
        self._allows = allows

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> NetworkStream:
        until = monotonic() + self._deadline.left(timeout, httpcore2.ConnectTimeout)
        trouble: Exception = httpcore2.ConnectError(f"{host} has no address")
        for address in _addresses(host, port):  # a name has several, and each may take the whole time
            left = until - monotonic()
            if left <= 0:
                raise httpcore2.ConnectTimeout("no address answered in time")
            if self._allows is not None and not self._allows(address):
                # The very address that would be used, so a name that changes meanwhile is no way round.
                trouble = httpcore2.ConnectError(f"{host} is in a private network")
                continue
            try:
                stream = self._inner.connect_tcp(address, port, left, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                trouble = error
            else:
                return _Stream(stream, self._deadline)
        raise trouble


def only_public(address: str) -> bool:
    """Whether an address is out in the world: not this machine, not a private network, not a cloud's own."""
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address):
        found = found.ipv4_mapped or found.sixtofour or (found.teredo or (None, found))[1]
    return found.is_global and not found.is_multicast


def _addresses(host: str, port: int) -> list[str]:
    """The addresses of a host, in the order in which the system prefers them."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore2.ConnectError(str(error)) from error
    return list(dict.fromkeys(str(address[4][0]) for address in found))


class _Timed(httpx2.SyncByteStream):
    """Sets the deadline again for whoever reads the body, and lifts it afterwards."""

    def __init__(self, inner: httpx2.SyncByteStream, deadline: _Deadline, at: float) -> None:
        self._inner = inner
        self._deadline = deadline
        self._at = at

    def __iter__(self) -> Iterator[bytes]:
        self._deadline.at = self._at
        yield from self._inner

    def close(self) -> None:
        self._inner.close()


class _Bounded(httpx2.SyncByteStream):
    """A body of at most so many decoded bytes. One that must not be whole ends where it cannot be read on."""

    def __init__(
        self,
        inner: httpx2.SyncByteStream,
        request: httpx2.Request,
        bytes_max: int,
        is_packed: bool,
        must_be_whole: bool,
    ) -> None:
        self._inner = inner
        self._request = request
        self._bytes_max = bytes_max
        self._is_packed = is_packed
        self._must_be_whole = must_be_whole

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._decoded()
        except httpx2.TransportError:
            if self._must_be_whole:
                raise

    def _decoded(self) -> Iterator[bytes]:
        left = self._bytes_max
        unpack = _Unpacker() if self._is_packed else None
        for chunk in self._inner:
            if unpack is not None:
                try:
                    chunk = unpack.feed(chunk, left + 1)
                except zlib.error as error:
                    raise httpx2.ReadError(str(error), request=self._request) from None
            left -= len(chunk)
            if left < 0:
                yield chunk[:left]
                raise httpx2.ReadError("answer too long", request=self._request)
            yield chunk
        if unpack is not None and not unpack.is_whole:
            raise httpx2.ReadError("the compressed answer breaks off", request=self._request)

    def close(self) -> None:
        self._inner.close()


class _Unpacker:
    """Unpacks gzip of one or more members, zlib, or deflate without a header, in steps of bounded size."""

    _GZIP_OR_ZLIB, _RAW = 47, -15

    def __init__(self) -> None:
        self._unpack = zlib.decompressobj(self._GZIP_OR_ZLIB)
        self._is_begun = False

    @property
    def is_whole(self) -> bool:
        """Whether the end was there."""
        return self._unpack.eof or not self._is_begun

    def feed(self, chunk: bytes, most: int) -> bytes:
        """Unpack a piece, to `most` bytes; what would be more is not kept, because the reader stops there."""
        found = b""
        while chunk and len(found) < most:
            if self._unpack.eof:  # another member follows
                self._unpack = zlib.decompressobj(self._GZIP_OR_ZLIB)
            try:
                found += self._unpack.decompress(chunk, most - len(found))
            except zlib.error:
                if self._is_begun:
                    raise
                self._unpack = zlib.decompressobj(self._RAW)
                found += self._unpack.decompress(chunk, most - len(found))
            self._is_begun = True
            chunk = self._unpack.unused_data if self._unpack.eof else self._unpack.unconsumed_tail
        return found
