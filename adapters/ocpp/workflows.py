"""What re-credentials or re-points a station on purpose, which no upstream may: step by step, each in the audit.

A new password counts beside the old one until the station has come in with it; only then is the old one discarded, so that
whatever happens in between (a refusal, a power cut, a lost answer) the station can always come back.
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from adapters.ocpp.link import StationLink
from adapters.ocpp.privacy import Forgetter
from cem import access, pki
from cem.csms.actions import Forget, Sign
from cem.csms.dialect import Ask, Dialect
from cem.csms.frames import Frame, Kind
from cem.csms.settings import settings_in
from cem.errors import CemError, DeviceRefused

ANSWER_S = 35.0
RECONNECTS_ITSELF_S = 5.0
"""A station that took a new password dials anew by itself (OCPP 2.0.1 A01.FR.11); else its connection is closed."""
CONFIRM_S = 60.0
Tell = Callable[[str, str, str], None]


class Workflows:
    """The operator's own commands towards stations.

    Args:
        links: Every station's.
        forgetter: Forgets what CSMSs clear.
        directory: The storage directory, where credentials are kept; ``None``: nothing is kept.
        tell: Told code, station and text of what belongs in the audit.
    """

    def __init__(
        self, links: Mapping[str, StationLink], forgetter: Forgetter, directory: Path | None, tell: Tell
    ) -> None:
        self._links = links
        self._forgetter = forgetter
        self._signing: set[asyncio.Task[None]] = set()
        self._directory = directory
        self._tell = tell
        self._confirmed: dict[str, asyncio.Event] = {}

    def came_in_with_next(self, who: str) -> None:
        """The station proved that it has the new password; the old one is discarded already."""
        self._tell("credentials_rotated", who, f"{who} came in with its new password; the old one counts no longer")
        if who in self._confirmed:
            self._confirmed[who].set()

    def aside(self, who: str, action: Forget | Sign) -> None:
        """What a session wants that is no matter of its sockets."""
        if isinstance(action, Forget):
            self._forgetter.ask(action.token)
            return
        task = asyncio.get_running_loop().create_task(self._sign(who, action.csr))
        self._signing.add(task)
        task.add_done_callback(self._signing.discard)

    async def _sign(self, who: str, csr: str) -> None:
        """A certificate of the site's own CA, for the station's leg to us; bound to its identity (OCPP 2.0.1 A02)."""
        try:
            link, dialect = self._link(who)
            if self._directory is None:
                return
            chain = await asyncio.to_thread(pki.sign, self._directory, csr, who, datetime.now(UTC))
            answer = await self._ask(link, dialect.certificate_signed(chain))
        except CemError as problem:
            self._tell("certificate_refused", who, f"{who} asked for a certificate and was given none: {problem}")
            return
        status = "no answer" if answer is None else setting_status(answer)
        self._tell("certificate_issued", who, f"{who} was given a certificate of the site's CA: {status}")

    async def _ask(self, link: StationLink, ask: Ask) -> Frame | None:
        """A CALL to a station and its answer; ``None`` where none came."""
        answered: asyncio.Future[Frame | None] = asyncio.get_running_loop().create_future()

        def done(answer: Frame | None) -> None:
            if not answered.done():
                answered.set_result(answer)

        link.do(lambda now: link.session.ask_station(ask, done, now))
        try:
            async with asyncio.timeout(ANSWER_S):
                return await answered
        except TimeoutError:
            return None

    def _link(self, who: str) -> tuple[StationLink, Dialect]:
        link = self._links.get(who)
        if link is None:
            raise CemError(f"there is no station {who} in the site file")
        dialect = link.session.clouds.dialect
        if not link.session.online or dialect is None:
            raise CemError(f"{who} is not online; it must be, to be told")
        return link, dialect

    async def rotate(self, who: str) -> str:
        """Gives a station a new password.

        Returns:
            ``confirmed`` once it came in with it, ``pending`` while both are accepted because it has not yet.

        Raises:
            CemError: It refused, is offline, or nothing can be kept.
        """
        (link, dialect), directory = self._link(who), self._directory
        if directory is None:
            raise CemError("this controller has no storage directory to keep passwords in")
        if who in self._confirmed:
            raise CemError(f"{who} is being given a new password already")
        # 20 bytes in hexadecimal: the AuthorizationKey of 1.6, and a passwordString of 2.x (16 to 40 characters)
        password = secrets.token_hex(20)
        confirmed = self._confirmed[who] = asyncio.Event()
        try:
            await asyncio.to_thread(access.offer_credential, directory, who, password)
            answer = await self._ask(link, dialect.set_password(password))
            status = None if answer is None else setting_status(answer)
            if status not in {None, "Accepted", "RebootRequired"}:
                await asyncio.to_thread(access.withdraw_credential, directory, who)
                text = f"{who} refused a new password ({status}); its old one counts as before"
                self._tell("credentials_refused", who, text)
                raise DeviceRefused(text)
            self._tell(
                "credentials_offered", who, f"{who} was given a new password; both count until it comes in with it"
            )
            if status == "Accepted":
                await self._come_back(link, confirmed)
            return "confirmed" if confirmed.is_set() else "pending"
        finally:
            del self._confirmed[who]

    @staticmethod
    async def _come_back(link: StationLink, confirmed: asyncio.Event) -> None:
        socket = link.socket
        try:
            async with asyncio.timeout(RECONNECTS_ITSELF_S):
                await confirmed.wait()
        except TimeoutError:
            if socket is not None and link.socket is socket:
                await socket.close(1012, "come back with the new password")
        try:
            async with asyncio.timeout(CONFIRM_S):
                await confirmed.wait()
        except TimeoutError:
            return

    async def migrate(self, who: str, url: str, *, key: str | None, slot: int, security_profile: int) -> list[str]:
        """Points a station to another CSMS; in 2.x it keeps this controller as its second choice.

        Args:
            who: The station.
            url: Of the CSMS, without the identity.
            key: The vendor's own configuration key for it; 1.6 has none of its own.
            slot: Of the network profile (2.x).
            security_profile: That of the connection there (2.x).

        Returns:
            What was done, for people.

        Raises:
            CemError: It refused a step, is offline or charges.
        """
        link, dialect = self._link(who)
        place = urlsplit(url)
        if place.scheme not in {"ws", "wss"} or not place.hostname or "@" in place.netloc:
            raise CemError(f"{url[:80]!r} is not an address such as wss://HOST/PATH")
        ask_order = dialect.ask_network_priority()
        priority: list[str] = []
        if ask_order is not None:
            told = await self._ask(link, ask_order)
            found = [] if told is None or told.kind is not Kind.RESULT else settings_in(told.payload)
            priority = [part.strip() for _, value in found for part in value.split(",") if part.strip()]
            if priority[:1] == [str(slot)]:
                raise CemError(f"slot {slot} is the one {who} uses to dial us; choose another by --slot")
        steps = dialect.repoint(url, key, slot, security_profile, priority)
        if not steps:
            raise CemError(f"OCPP 1.6 has no key for the address: give the one of {who}'s vendor by --key")
        if link.session.picture.transactions.open:
            raise CemError(f"{who} is charging; wait until it is free")
        done: list[str] = []
        for ask in steps:
            answer = await self._ask(link, ask)
            status = None if answer is None else setting_status(answer)
            if status not in {"Accepted", "RebootRequired", "Scheduled"}:
                text = f"{who} refused {ask[0]} ({status or 'no answer'}) on its way to {place.hostname}"
                self._tell("migration_refused", who, text + (f"; done before: {', '.join(done)}" if done else ""))
                raise DeviceRefused(text)
            done.append(f"{ask[0]}: {status}")
        self._tell("station_migrated", who, f"{who} was pointed to {place.hostname} by command: {', '.join(done)}")
        return done


def setting_status(answer: Frame) -> str:
    """What a station said to a setting, of any version."""
    if answer.kind is not Kind.RESULT:
        return answer.code
    results = answer.payload.get("setVariableResult")
    if isinstance(results, list) and results and isinstance(results[0], dict):
        return str(results[0].get("attributeStatus"))
    return str(answer.payload.get("status"))
