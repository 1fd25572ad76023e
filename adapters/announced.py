"""What devices announce by themselves on the local network (mDNS, DNS-SD)."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zeroconf import ServiceStateChange, Zeroconf
    from zeroconf.asyncio import AsyncServiceInfo

KINDS = {
    "_ocpp._tcp.local.": "OCPP",
    "_modbus._tcp.local.": "Modbus TCP",
    "_opcua-tcp._tcp.local.": "OPC UA",
    "_mqtt._tcp.local.": "an MQTT broker",
    "_shelly._tcp.local.": "Shelly",
    "_http._tcp.local.": "a web page",
}
MAKERS = (
    "shelly",
    "tasmota",
    "evcc",
    "fronius",
    "sma",
    "solaredge",
    "kostal",
    "go-echarger",
    "warp",
    "keba",
    "victron",
)
"""Words by which a web page is taken for something of energy; all else with a web page is left out."""

RESOLVE_MS = 1500
MOST = 500
TEXTS = ("manufacturer", "vendor", "model", "app", "type", "gen", "ver", "path")
"""What an announcement's text may say that helps to know the thing."""


@dataclass(frozen=True, slots=True)
class Announced:
    """One service of one device.

    Attributes:
        kind: A key of ``KINDS``.
        name: As it calls itself.
        host: Its address.
        port: Of the service.
        about: What it says of itself.
    """

    kind: str
    name: str
    host: str
    port: int
    about: str


async def announced(
    seconds: float,
    tell: Callable[[Announced], None] = lambda _: None,
    interfaces: Sequence[str] | None = None,
) -> list[Announced]:
    """Listen for a while.

    Args:
        seconds: How long.
        tell: Called for each service as it is found.
        interfaces: Our addresses to listen at; all where left out.

    Returns:
        Every service of ``KINDS``, web pages only where their name says something of energy.

    Raises:
        OSError: There is no network to listen on.
    """
    from zeroconf import InterfaceChoice, IPVersion, ServiceStateChange  # noqa: PLC0415 - other commands need not wait for it
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf  # noqa: PLC0415 - likewise

    zeroconf = AsyncZeroconf(
        ip_version=IPVersion.V4Only, interfaces=InterfaceChoice.All if interfaces is None else list(interfaces)
    )
    found: dict[tuple[str, str], Announced] = {}
    tasks: set[asyncio.Task[None]] = set()

    async def resolve(kind: str, name: str) -> None:
        info = AsyncServiceInfo(kind, name)
        if await info.async_request(zeroconf.zeroconf, RESOLVE_MS) and (addresses := info.parsed_addresses()):
            one = Announced(kind, name.removesuffix(f".{kind}")[:64], addresses[0], info.port or 0, _about(info))
            if len(found) < MOST and (kind, name) not in found and _wanted(one):
                found[kind, name] = one
                tell(one)

    def changed(zeroconf: "Zeroconf", service_type: str, name: str, state_change: "ServiceStateChange") -> None:
        del zeroconf
        if state_change is ServiceStateChange.Added and len(tasks) < MOST:
            task = asyncio.ensure_future(resolve(service_type, name))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    try:
        browser = AsyncServiceBrowser(zeroconf.zeroconf, list(KINDS), handlers=[changed])
        await asyncio.sleep(seconds)
        await browser.async_cancel()
        await asyncio.gather(*tasks)
    finally:
        await zeroconf.async_close()
    return sorted(found.values(), key=lambda one: (one.host, one.kind))


def _wanted(one: Announced) -> bool:
    return one.kind != "_http._tcp.local." or any(word in one.name.casefold() for word in MAKERS)


def _about(info: "AsyncServiceInfo") -> str:
    told = {key.casefold(): value for key, value in info.decoded_properties.items() if value}
    return " ".join(f"{key}={told[key]}" for key in TEXTS if key in told)[:120]
