"""Digital inputs and contactor outputs behind a Modbus connection: coils and discrete inputs, read and switched."""

from collections.abc import Sequence

from adapters.modbus.link import Link
from adapters.modbus.unit import pause_s
from adapters.trouble import Trouble
from cem.config.contact_models import ContactorSection, ContactSection
from cem.config.modbus_models import ModbusConnection
from cem.config.mqtt_models import MqttBroker
from cem.errors import DeviceMisconfigured
from cem.ports import Clock, News

PERIOD_S = 0.5
STALE_S = 2.0
"""A contact that was not read for so long says nothing."""

FAR = 16
"""Inputs further apart are read one by one: modules refuse what they do not have."""

FOLLOWS_S = 2.0
"""A contactor moves, and its auxiliary contact with it, in less."""


class _Bits:
    """What the adapter asks of everything it reads in turn."""

    def __init__(self, name: str, connection: ModbusConnection, trouble: Trouble, clock: Clock) -> None:
        self.name, self.trouble = name, trouble
        self.due_s, self.failed_this_run = 0.0, False
        self._at, self._clock = connection, clock

    def missed(self, reason: str, now_s: float) -> None:
        """It answered, and something is wrong."""
        self.failed_this_run = False
        self.trouble.bad(f"{self.name}: {reason}")
        self.due_s = now_s + PERIOD_S

    def failed(self, reason: str, now_s: float, *, quiet: bool = False) -> None:
        """It did not answer."""
        self.failed_this_run = True
        self.trouble.bad(reason, quiet=quiet)
        self.due_s = now_s + pause_s(self.trouble.in_a_row)

    def succeeded(self, now_s: float) -> None:
        """All is well."""
        self.failed_this_run = False
        self.trouble.good()
        self.due_s = now_s + PERIOD_S

    def forget(self) -> None:
        """The connection is gone; what was read ages."""


class Inputs(_Bits):
    """Contacts of one unit and table that are near each other, read in one request: a late answer is to the same question."""

    def __init__(self, contacts: Sequence[ContactSection], trouble: Trouble, clock: Clock, news: News) -> None:
        at = contacts[0].connection
        if isinstance(at, MqttBroker):
            raise DeviceMisconfigured(f"contact {contacts[0].id}: its connection is not Modbus")
        super().__init__(f"contact {', '.join(c.id for c in contacts)}", at, trouble, clock)
        self._contacts, self._news = contacts, news
        self._table = contacts[0].table
        self._first = min(_address(c) for c in contacts)
        self._count = max(_address(c) for c in contacts) - self._first + 1
        self._closed: dict[str, bool] = {}
        self._read_s = float("-inf")
        trouble.problem = f"{self.name}: not read yet"

    async def read(self, link: Link, clock: Clock) -> str | None:
        """Reads them all.

        Raises:
            AdapterError: They could not be read.
        """
        began_s = clock.monotonic_s()
        bits = await link.read_bits(
            self._at.unit_id, self._table, self._first, self._count, self._at.timeout_s, self.name
        )
        before = self.active()
        self._closed = {c.id: bits[_address(c) - self._first] for c in self._contacts}
        self._read_s = began_s
        if self.active() != before:
            self._news()
        return None

    def active(self) -> dict[str, bool | None]:
        """For each contact whether it acts; ``None``: it cannot be read."""
        fresh = self._clock.monotonic_s() - self._read_s <= STALE_S
        return {
            c.id: self._closed[c.id] == (c.active_when == "closed") if fresh and c.id in self._closed else None
            for c in self._contacts
        }


class Output(_Bits):
    """One contactor: its coil is read, and written where it is not as wanted; so a restarted module is told again."""

    def __init__(self, config: ContactorSection, trouble: Trouble, clock: Clock) -> None:
        if isinstance(config.connection, MqttBroker) or config.address is None:
            raise DeviceMisconfigured(f"contactor {config.id}: a Modbus contactor needs an address in the site file")
        super().__init__(f"contactor {config.id}", config.connection, trouble, clock)
        self.config, self._coil = config, config.address
        self.want_closed: bool | None = None
        self.closed: bool | None = None
        self._since_s = float("-inf")

    def switch(self, *, closed: bool) -> bool:
        """Wants it so; ``True`` where that is new."""
        if closed == self.want_closed:
            return False
        self.want_closed, self.due_s = closed, self._clock.monotonic_s()
        return True

    async def read(self, link: Link, clock: Clock) -> str | None:
        """Reads it, and puts it right; what is wrong then.

        Raises:
            AdapterError: It could not be reached, or refused.
        """
        config, at = self.config, self._at
        on_is_closed, want = config.closed_when == "on", self.want_closed
        (on,) = await link.read_bits(at.unit_id, "coil", self._coil, 1, at.timeout_s, self.name)
        if want is not None and (on == on_is_closed) != want:
            await link.write_coil(
                at.unit_id, self._coil, on=want == on_is_closed, timeout_s=at.timeout_s, device=self.name
            )
            self._since_s = clock.monotonic_s()
            (on,) = await link.read_bits(at.unit_id, "coil", self._coil, 1, at.timeout_s, self.name)
            if (on == on_is_closed) != want:
                return f"its coil was switched {_word(not on)} and reads back as {_word(on)}"
        self.closed = on == on_is_closed
        if config.feedback is None:
            return None
        (self.closed,) = await link.read_bits(at.unit_id, "discrete_input", config.feedback, 1, at.timeout_s, self.name)
        if want is None or self.closed == want or clock.monotonic_s() - self._since_s < FOLLOWS_S:
            return None
        is_so, should = ("closed", "open") if self.closed else ("open", "closed")
        return f"its auxiliary contact says {is_so}, it should be {should}: check the contactor and its wiring"

    def forget(self) -> None:
        """The connection is gone: nobody knows how it stands."""
        self.closed = None


def inputs_of(contacts: Sequence[ContactSection], clock: Clock, news: News) -> list[Inputs]:
    """Contacts in groups that are read together."""
    groups: list[list[ContactSection]] = []
    for contact in sorted(contacts, key=lambda c: (_unit(c), c.table, _address(c))):
        last = groups[-1][-1] if groups else None
        if (
            last is not None
            and (_unit(last), last.table) == (_unit(contact), contact.table)
            and _address(contact) - _address(last) <= FAR
        ):
            groups[-1].append(contact)
        else:
            groups.append([contact])
    return [
        Inputs(group, Trouble(f"contact {', '.join(c.id for c in group)}", clock, news, after=2), clock, news)
        for group in groups
    ]


def _address(contact: ContactSection) -> int:
    if contact.address is None:
        raise DeviceMisconfigured(f"contact {contact.id}: a Modbus contact needs an address in the site file")
    return contact.address


def _unit(contact: ContactSection) -> int:
    return 0 if isinstance(contact.connection, MqttBroker) else contact.connection.unit_id


def _word(on: bool) -> str:
    return "on" if on else "off"
