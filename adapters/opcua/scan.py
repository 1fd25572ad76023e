"""Which OPC UA servers are at an address that somebody named, and how they let one in."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from cem.supervise import obey_cancellation

POLICIES = ("Aes256_Sha256_RsaPss", "Aes128_Sha256_RsaOaep", "Basic256Sha256")
"""What we can speak besides no security, the best first."""

MODES = {"SignAndEncrypt": "sign_and_encrypt", "Sign": "sign"}
MOST_SERVERS = 16


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server that answers.

    Attributes:
        url: Where it was reached; servers often tell a host name that nobody resolves, so ours stands in its place.
        name: As it calls itself.
        securities: Each as ``(security, policy)`` of the site file, the best first; ``("none", "")`` last.
        anonymous: Nobody need say who he is.
        by_password: A user name and password open it.
    """

    url: str
    name: str
    securities: tuple[tuple[str, str], ...]
    anonymous: bool
    by_password: bool


async def endpoints(url: str, timeout_s: float) -> list[Endpoint]:
    """The server at this address, and those that it knows of on the same host; empty where nobody speaks OPC UA."""
    library = await asyncio.to_thread(import_module, "asyncua.client.client")
    host = urlsplit(url).hostname or ""
    known = await _servers(library, url, timeout_s)
    if known is None:
        return []
    wanted = dict.fromkeys([url, *(_at(host, each) for server in known for each in server.DiscoveryUrls or ())])
    found: dict[str, Endpoint] = {}
    for each in list(wanted)[:MOST_SERVERS]:
        for endpoint in await _endpoints(library, host, each, timeout_s):
            found.setdefault(endpoint.url, endpoint)
    return list(found.values())


async def _servers(library: Any, url: str, timeout_s: float) -> Sequence[Any] | None:
    """Every server answers this (OPC 10000-4, 5.5.2); who does not is none."""
    with suppress(library.ua.UaError, TimeoutError, OSError):
        async with asyncio.timeout(2 * timeout_s):
            servers: Sequence[Any] = await library.Client(url, timeout=timeout_s).connect_and_find_servers()
            return servers
    obey_cancellation()
    return None


async def _endpoints(library: Any, host: str, url: str, timeout_s: float) -> list[Endpoint]:
    told: Sequence[Any] = ()
    with suppress(library.ua.UaError, TimeoutError, OSError):
        async with asyncio.timeout(2 * timeout_s):
            told = await library.Client(url, timeout=timeout_s).connect_and_get_server_endpoints()
    obey_cancellation()
    urls: dict[str, list[Any]] = {}
    for each in told:
        if (each.EndpointUrl or "").startswith("opc.tcp://"):
            urls.setdefault(_at(host, each.EndpointUrl), []).append(each)
    return [_endpoint(where, each) for where, each in urls.items()]


def _endpoint(url: str, told: Sequence[Any]) -> Endpoint:
    offered = {(each.SecurityMode.name, str(each.SecurityPolicyUri).rpartition("#")[2]) for each in told}
    securities = [(MODES[mode], policy) for mode in MODES for policy in POLICIES if (mode, policy) in offered]
    if any(mode == "None_" for mode, _ in offered):
        securities.append(("none", ""))
    tokens = {token.TokenType.name for each in told for token in each.UserIdentityTokens or ()}
    name = told[0].Server.ApplicationName.Text or told[0].Server.ApplicationUri or ""
    return Endpoint(url, str(name)[:80], tuple(securities), "Anonymous" in tokens, "UserName" in tokens)


def _at(host: str, url: str) -> str:
    parts = urlsplit(url)
    shown = f"[{host}]" if ":" in host else host
    return urlunsplit((parts.scheme, f"{shown}:{parts.port or 4840}", parts.path, "", ""))
