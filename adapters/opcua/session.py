"""One session with an OPC UA server: secured, identified, and every error of the library made ours."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from adapters.opcua import pki
from cem.config.opcua_models import OpcUaServer
from cem.errors import DeviceMisconfigured, DeviceRefused, DeviceUnavailable
from cem.supervise import obey_cancellation

CONNECT_TIMEOUT_S = 8.0
READ_TIMEOUT_S = 2.0
READ_EVERY_S = 1.0  # a dead server is noticed within this and the time-out
CLOSE_TIMEOUT_S = 1.0
SESSION_TIMEOUT_MS = 60_000  # what the server keeps of us when we die

_NODE_ID = re.compile(r"(ns=\d+;)?[isgb]=.+")
_BY_URI = re.compile(r"nsu=([^;]+);([isgb]=.+)")  # OPC 10000-6, 5.1.12
_IDENTITY = ("Identity", "UserAccess")
_CERTIFICATE = ("SecurityChecksFailed", "Certificate")

# asyncua logs every failed request of a lost connection; an outage is logged once, by the supervisor.
logging.getLogger("asyncua").setLevel(logging.CRITICAL)


@asynccontextmanager
async def connected(name: str, server: OpcUaServer) -> AsyncIterator[tuple[Any, Any]]:
    """Asyncua's client with a session, and its ``ua`` module.

    Args:
        name: Of the adapter, for messages.
        server: Its section of the site file.

    Raises:
        DeviceUnavailable: The server is away.
        DeviceRefused: It refuses our user or our certificate.
        DeviceMisconfigured: It has no such security, or its certificate is not trusted.
    """
    library = await asyncio.to_thread(_import_library)
    ua = library.ua
    where = f"{name}: {server.endpoint}"
    client = library.Client(server.endpoint, timeout=READ_TIMEOUT_S, watchdog_intervall=3600.0)
    client.session_timeout = SESSION_TIMEOUT_MS
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await _secure(client, library, server, where)
            await _identify(client, server, where)
            await client.connect()
        obey_cancellation()
        yield client, ua
    except (ua.UaStatusCodeError, ua.UaError) as error:
        kind = type(error).__name__
        if any(word in kind for word in _IDENTITY):
            raise DeviceRefused(f"{where} refuses us ({kind}); check username and password, or certificate") from error
        if any(word in kind for word in _CERTIFICATE):
            own = Path(server.pki_folder) / "own" / "certificate.der"
            raise DeviceRefused(f"{where} does not trust our certificate ({kind}); accept {own} there") from error
        raise DeviceUnavailable(f"{where}: {kind} {error}; check endpoint and server") from error
    except TimeoutError as error:
        raise DeviceUnavailable(f"{where} does not answer; check network, endpoint and that it runs") from error
    except OSError as error:
        raise DeviceUnavailable(f"{where} cannot be reached ({error}); check address, port and firewall") from error
    finally:
        with suppress(Exception):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await client.disconnect()
        client.disconnect_socket()


async def _secure(client: Any, library: ModuleType, server: OpcUaServer, where: str) -> None:
    if server.security == "none":
        return
    ua = library.ua
    policies = import_module("asyncua.crypto.security_policies")
    policy = getattr(policies, f"SecurityPolicy{server.policy.replace('_', '')}")
    mode = ua.MessageSecurityMode.Sign if server.security == "sign" else ua.MessageSecurityMode.SignAndEncrypt
    folder = Path(server.pki_folder)
    certificate, key, client.application_uri = await asyncio.to_thread(pki.own_identity, folder)
    endpoints = await client.connect_and_get_server_endpoints()
    obey_cancellation()
    shown = [e.ServerCertificate for e in endpoints if e.SecurityPolicyUri == policy.URI and e.SecurityMode == mode]
    if not shown or not shown[0]:
        offered = sorted({f"{e.SecurityPolicyUri.rpartition('#')[2]} {e.SecurityMode.name}" for e in endpoints})
        raise DeviceMisconfigured(
            f"{where} does not offer {server.policy} {mode.name}; it offers {', '.join(offered)}: choose security and policy"
        )
    der = await asyncio.to_thread(pki.check_trusted, folder, bytes(shown[0]), where)
    await client.set_security(policy, certificate, key, server_certificate=der, mode=mode)


async def _identify(client: Any, server: OpcUaServer, where: str) -> None:
    if server.username is not None:
        client.set_user(server.username)
        client.set_password(server.password or "")
    if server.certificate_file is not None:
        try:
            await client.load_client_certificate(Path(server.certificate_file))
            await client.load_private_key(Path(server.key_file or server.certificate_file))
        except (OSError, ValueError, TypeError) as error:
            raise DeviceMisconfigured(
                f"{where}: certificate_file and key_file cannot be used ({error}); wanted are a certificate and its key"
            ) from error


async def namespace_index(client: Any, server: OpcUaServer, where: str) -> int:
    """Of the site file's namespace. Asked anew at each connect: servers change it when they restart.

    Raises:
        DeviceMisconfigured: There is none.
    """
    if server.namespace_uri is None:
        return 0
    try:
        return int(await client.get_namespace_index(server.namespace_uri))
    except ValueError as error:
        known = ", ".join(await client.get_namespace_array())
        raise DeviceMisconfigured(f"{where} has no namespace {server.namespace_uri!r}; it has {known}") from error


async def find_node(client: Any, ua: Any, text: str, index: int, where: str) -> Any:
    """The node of a NodeId (``s=Limit``, ``ns=2;i=7``, ``nsu=URI;s=Limit``) or of a browse path (``Objects/DSO/Limit``).

    Raises:
        DeviceMisconfigured: There is none.
    """
    try:
        if by_uri := _BY_URI.fullmatch(text):
            index, text = int(await client.get_namespace_index(by_uri[1])), by_uri[2]
        if _NODE_ID.fullmatch(text):
            return client.get_node(ua.NodeId.from_string(text if text.startswith("ns=") else f"ns={index};{text}"))
        names = [name for name in text.split("/") if name]
        if names and names[0] in {"Objects", "0:Objects"}:
            names = names[1:]
        path = [name if re.match(r"\d+:", name) else f"{index}:{name}" for name in names]
        return await client.nodes.objects.get_child(path)
    except (ua.UaStringParsingError, ua.uaerrors.BadNoMatch, ValueError) as error:
        raise DeviceMisconfigured(f"{where} has no node {text!r}; check nodes and namespace_uri") from error


def _import_library() -> ModuleType:
    """Off the loop: 280 ms of importing would be a missed cycle on a small machine."""
    return import_module("asyncua.client.client")
