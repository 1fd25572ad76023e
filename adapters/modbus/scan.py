"""Find Modbus devices at addresses that somebody named, and tell which of our maps they are."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass

from adapters.modbus.decode import WIDTH, Request
from adapters.modbus.link import Link
from adapters.modbus.maps import known_models, load_map
from adapters.modbus.sunspec import text_of
from adapters.modbus.sunspec_points import Model, read_models
from cem.config.maps import MapIdentity, RegisterMap, Table
from cem.config.modbus_models import ModbusConnection, ModbusTcp
from cem.errors import AdapterError, DeviceMisconfigured, DeviceRefused, DeviceUnavailable

_METERS = {201, 202, 203, 204, 211, 212, 213, 214}
_INVERTERS = {101, 102, 103, 111, 112, 113, 701}
_STORAGE = {713, 802}
_PRESENCE = (Request("input", 0, 2), Request("holding", 0, 2))
"""What most meters have; two questions more, and a unit that answers none of them is given up."""


@dataclass(frozen=True, slots=True)
class Found:
    """A unit that answers.

    Attributes:
        connection: Where, with its unit id.
        models: Maps that fit, best first; empty: it answers and none is known to fit.
        about: Maker, model and serial number as it tells them, for people.
        max_w: Nameplate power as it tells it.
    """

    connection: ModbusConnection
    models: tuple[str, ...]
    about: str = ""
    max_w: float | None = None


async def scan_line(connections: Sequence[ModbusConnection], timeout_s: float) -> AsyncIterator[Found | None]:
    """Ask units of one line, one after the other; gives ``None`` for a unit that does not answer.

    Raises:
        DeviceUnavailable: Nobody is at that address, or there is no such port.
    """
    link = Link(connections[0])
    try:
        await link.open()
        for connection in connections:
            yield await _unit(link, connection, timeout_s)
    finally:
        link.close()


async def is_open(host: str, port: int, timeout_s: float) -> bool:
    """Somebody accepts connections there."""
    try:
        async with asyncio.timeout(timeout_s):
            _reader, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


class _Silent(DeviceRefused):
    """It answers others, and keeps silent about what it does not know, instead of refusing it."""


class _Asked:
    """One unit that is asked this and that, and what it may be asked to see whether it is there at all."""

    def __init__(self, link: Link, unit_id: int, timeout_s: float) -> None:
        self.name = f"unit {unit_id}"
        self._link, self._unit_id, self._timeout_s = link, unit_id, timeout_s
        self._answers: Request | None = None

    async def read(self, request: Request, unit_id: int | None = None) -> list[int]:
        """Registers of this unit, or of another one at the same address.

        Raises:
            DeviceRefused: It refuses, or is silent about these registers alone.
            DeviceUnavailable: Nobody answers.
        """
        if unit_id is not None and unit_id != self._unit_id:
            await self._link.open()
            return await self._link.read(unit_id, request, self._timeout_s, self.name)
        try:
            return await self._ask(request)
        except DeviceUnavailable as error:
            if await self._is_there():
                raise _Silent(f"{self.name}: silent about {request}") from error
            raise

    async def _is_there(self) -> bool:
        # On a serial line this also settles which answers may still come: what it knows is answered in time.
        for request in _PRESENCE if self._answers is None else (self._answers,):
            try:
                await self._ask(request)
            except DeviceUnavailable:
                continue
            except AdapterError:
                pass
            return True
        return False

    async def _ask(self, request: Request) -> list[int]:
        await self._link.open()
        try:
            words = await self._link.read(self._unit_id, request, self._timeout_s, self.name)
        except (DeviceRefused, DeviceMisconfigured):
            self._answers = self._answers or request
            raise
        self._answers = self._answers or request
        return words


async def _unit(link: Link, connection: ModbusConnection, timeout_s: float) -> Found | None:
    asked = _Asked(link, connection.unit_id, timeout_s)
    read, name = asked.read, asked.name
    try:
        models = await read_models(read, name, frozenset({1, 120, 124, 702}))
    except DeviceUnavailable:
        return None
    except AdapterError:  # it answers, and not with SunSpec
        models = []
    known = _sunspec(connection, models) if models else Found(connection, ())
    fitting, about = list(known.models), known.about
    for model, identities in _identities():
        others = {each.unit_id for _, each in identities} - {None}
        if others and (connection.unit_id in others or not isinstance(connection, ModbusTcp)):
            continue
        try:
            told = [await read(Request(table, each.address, _width(each)), each.unit_id) for table, each in identities]
            if others:  # this unit has what the map reads: units that are not there are answered for as well
                await read(_first_value(model))
        except (DeviceUnavailable, _Silent):
            if known.models:
                break  # it does not answer to what it does not know: each further question would take a time-out
            continue
        except AdapterError:
            continue
        if all(_matches(each, words) for (_, each), words in zip(identities, told, strict=True)):
            fitting.append(model)
            about = about or load_map(model).title
    return Found(connection, tuple(fitting), about, known.max_w)


def _sunspec(connection: ModbusConnection, models: Iterable[Model]) -> Found:
    chain = {model.number: model.values for model in models}
    common = chain.get(1, {})
    about = " ".join(str(common[name]) for name in ("Mn", "Md", "SN") if name in common)
    fitting = []
    if set(chain) & _METERS:
        fitting.append("sunspec_meter")
    storage = bool(set(chain) & _STORAGE) or bool(chain.get(124, {}).get("WChaMax"))
    if set(chain) & _INVERTERS:
        fitting.append("sunspec_battery" if storage else "sunspec_inverter")
        if storage and 160 in chain:
            fitting.append("sunspec_pv_dc")
    rated = chain.get(120, {}).get("WRtg", chain.get(702, {}).get("WMaxRtg"))
    return Found(connection, tuple(fitting), about, float(rated) if isinstance(rated, float) else None)


def _identities() -> list[tuple[str, list[tuple[Table, MapIdentity]]]]:
    found = []
    for model in known_models():
        device_map = load_map(model)
        if isinstance(device_map, RegisterMap) and device_map.identify:
            found.append((model, [(each.table or device_map.table, each) for each in device_map.identify]))
    return found


def _first_value(model: str) -> Request:
    device_map = load_map(model)
    if not isinstance(device_map, RegisterMap):
        raise TypeError(model)
    value = next(iter(device_map.values.values()))
    return Request(value.table or device_map.table, value.address, WIDTH[value.type])


def _width(identity: MapIdentity) -> int:
    if identity.count is not None:
        return identity.count
    if identity.text is not None:
        return (len(identity.text) + 1) // 2
    return len(identity.words) or 1


def _matches(identity: MapIdentity, words: list[int]) -> bool:
    if identity.words:
        return tuple(words[: len(identity.words)]) == identity.words
    if identity.one_of:
        return words[0] in identity.one_of
    if identity.low_byte_first:
        words = [(word & 0xFF) << 8 | word >> 8 for word in words]
    return text_of(words).startswith(identity.text or "")
