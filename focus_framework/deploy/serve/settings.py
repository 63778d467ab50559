"""What a service allows, and whom it answers."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import ConfigError
from ...files.reading import read_text

TOKEN_VARIABLE = "FOCUS_SERVE_TOKEN"
SHORTEST_TOKEN = 16
MEBI = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Bounds of what a client can make the service do; none of them may be missing, or one client fills the memory of all."""

    body: int = 32 * MEBI
    """Bytes of a request, counted before they are kept."""
    pixels: int = 32_000_000
    """Pixels of an image, read from its header before it is decoded."""
    images: int = 16
    """Images of a request."""
    waiting: int = 32
    """Requests at once; the next one is answered 429."""
    seconds: float = 60.0
    """Time of a request from its first line to the end of its answer, and of those that run when the service is told to end."""
    patience: float = 15.0
    """Seconds for which a connection may be open without a whole head of a request."""
    batch: int = 8
    """Images that go through a network together."""

    @property
    def bodies(self) -> int:
        """Bytes of all requests at once."""
        return 4 * self.body

    @property
    def pixels_at_once(self) -> int:
        """Pixels that are decoded at once; further images wait."""
        return 2 * self.pixels


@dataclass(frozen=True)
class Access:
    """Who is answered."""

    token: str = ""
    """What ``Authorization: Bearer`` has to carry; empty: nothing."""
    hosts: frozenset[str] = frozenset()
    """Names of this service in small letters, besides localhost and all plain addresses; ``*``: any."""
    origins: frozenset[str] = frozenset()
    """Other pages whose scripts may call, as ``https://name``."""

    def knows_host(self, header: str) -> bool:
        """Whether the value of a Host header is a name of this service.

        A page that points its own name at this machine (DNS rebinding) needs a name: a plain address cannot be pointed elsewhere.
        """
        name = host_of(header)
        return "*" in self.hosts or name == "localhost" or name in self.hosts or is_address(name)


def host_of(header: str) -> str:
    """The name in a Host header, in small letters, without the port and the brackets of IPv6."""
    if match := re.fullmatch(r"\[([0-9A-Fa-f:.]+)\](?::\d*)?", header.strip()):
        return match[1].lower()
    return re.sub(r":\d*$", "", header.strip()).rstrip(".").lower()


def is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches a service at this name."""
    return host == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)


def read_token(file: Path | None, environment: Mapping[str, str] = os.environ) -> str:
    """The token of a file, or of the variable ``FOCUS_SERVE_TOKEN``; never of the command line, which others can read. Raises
    `ConfigError` where it is too short to keep anybody out."""
    token = (read_text(file, error=ConfigError, what="token file") if file else environment.get(TOKEN_VARIABLE, "")).strip()
    if (file or token) and not re.fullmatch(rf"[\x21-\x7e]{{{SHORTEST_TOKEN},}}", token):
        where = f"the token in {file}" if file else f"the variable {TOKEN_VARIABLE}"
        raise ConfigError(f"{where} must be at least {SHORTEST_TOKEN} letters, digits and signs without spaces; try: openssl rand -hex 24")
    return token


def access_for(host: str, token: str, *, no_auth: bool, hosts: Sequence[str] = (), origins: Sequence[str] = ()) -> Access:
    """Raises `ConfigError` where others could reach the service and nothing was said of who may."""
    if not token and not no_auth and not is_loopback(host):
        raise ConfigError(
            f"--host {host} lets other machines in; give --token-file FILE (or the variable {TOKEN_VARIABLE}), or say --no-auth"
        )
    for origin in origins:
        if not re.fullmatch(r"https?://[^/\s*]+", origin):
            raise ConfigError(f"--allow-origin {origin!r} is no origin; write it as browsers do: https://name, without a path")
    names = {host_of(name) for name in (host, *hosts)}
    return Access(token, frozenset(names - {""}), frozenset(origin.lower() for origin in origins))
