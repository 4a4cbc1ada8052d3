"""Put first on PYTHONPATH, cuts a process and its children off the network: only this machine can be reached."""

import socket

_LOCAL = {"localhost", "127.0.0.1", "::1", "0.0.0.0", "::", "", None, socket.gethostname()}
_connect, _connect_ex, _getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo


def _refuse(address: object) -> None:
    host = address[0] if isinstance(address, tuple) else None
    if host not in _LOCAL:
        raise OSError(f"no network in tests: {address}")


def connect(self: socket.socket, address: object) -> None:
    _refuse(address)
    _connect(self, address)


def connect_ex(self: socket.socket, address: object) -> int:
    _refuse(address)
    return _connect_ex(self, address)


def getaddrinfo(host: object, *args: object, **kwargs: object) -> object:
    if host not in _LOCAL:
        raise OSError(f"no network in tests: {host}")
    return _getaddrinfo(host, *args, **kwargs)


socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo = connect, connect_ex, getaddrinfo
