"""Who may come in: everything that is decided about a station before its websocket handshake completes."""

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from websockets.datastructures import Headers
from websockets.http11 import Request

from adapters.ocpp.buckets import Buckets, source
from adapters.ocpp.tls import Peer, Revoked, encrypted
from cem.access import Access, matches, same_password
from cem.config.models import StationSection
from cem.errors import CemError
from cem.ports import Clock

ADDRESS_RATE, ADDRESS_BURST = 50.0, 500.0
"""Handshakes of one address: a gateway with a thousand stations behind it comes back in 10 to 20 s."""
STATION_RATE, STATION_BURST = 0.5, 20.0
"""Handshakes of one identity from one address."""
GUESS_RATE, GUESS_BURST = 1 / 30, 10.0
"""Wrong credentials for one identity from one address; other addresses are not touched, so nobody is locked out."""
MOST_HASHING = 2
MOST_FAST = 4096

Tell = Callable[[str, str, str], None]
Refusal = tuple[HTTPStatus, str]
_TOO_OFTEN: Refusal = (HTTPStatus.TOO_MANY_REQUESTS, "too many connections; try again later\n")
_WRONG: Refusal = (HTTPStatus.UNAUTHORIZED, "wrong credentials\n")


class Door:
    """Judges handshakes.

    Args:
        stations: Those of the site file.
        default_profile: Security profile of those that have none of their own.
        access: What was decided by command.
        revoked: Serials of certificates that hold no longer.
        clock: Time.
        tell: Told code, station and text of what people should know; each matter once until it is over.
        over: Told code and station of a matter that is over.
        came_in_with_next: Told a station that proved to have its next password.
        carried: Identities that a site below brings along, with the site: they come in with its credentials.
    """

    def __init__(
        self,
        stations: Sequence[StationSection],
        default_profile: int | None,
        access: Access,
        revoked: Revoked,
        clock: Clock,
        tell: Tell,
        over: Callable[[str, str], None],
        came_in_with_next: Callable[[str], None],
        carried: Mapping[str, str],
    ) -> None:
        self._stations = {station.id: station for station in stations}
        for name, site_id in carried.items():
            self._stations[name] = self._stations[site_id].model_copy(update={"id": name})
        self._carried = carried
        self._profiles = {
            who: default_profile if s.security_profile is None else s.security_profile
            for who, s in self._stations.items()
        }
        self._access = access
        self._revoked = revoked
        self._clock = clock
        self._tell = tell
        self._over = over
        self._came_in_with_next = came_in_with_next
        self._addresses = Buckets(ADDRESS_RATE, ADDRESS_BURST)
        self._pairs = Buckets(STATION_RATE, STATION_BURST)
        self._guesses = Buckets(GUESS_RATE, GUESS_BURST)
        self._hashing = asyncio.Semaphore(MOST_HASHING)
        self._secret = secrets.token_bytes(32)
        self._proven: dict[str, bytes] = {}

    def too_often(self, host: str, who: str) -> Refusal | None:
        """S13: knocking faster than stations do, by one identity or by one address."""
        now_s = self._clock.monotonic_s()
        address = source(host)
        if not self._pairs.of((address, who), now_s).try_take(now_s):
            self._tell("station_flood", who, f"{who} at {address} connects too often; it is made to wait")
            return _TOO_OFTEN
        if not self._addresses.of(address, now_s).try_take(now_s):
            self._tell("address_flood", address, f"{address} connects too often; it is made to wait")
            return _TOO_OFTEN
        return None

    async def refusal(self, transport: Any, headers: Headers, host: str, who: str) -> Refusal | None:
        """Why a station of the site file may not come in; ``None`` where it may."""
        station = self._stations[who]
        profile = self._profiles[who]
        peer = Peer.of(transport)
        problem = self._certificate(peer, who, needed=profile == 3)
        if problem is not None:
            self._tell("station_certificate", who, f"{who} was refused: {problem}")
            return HTTPStatus.FORBIDDEN, "this certificate does not fit this identity\n"
        if profile in {2, 3} and not encrypted(transport):
            text = f"{who} was refused: it dialed without TLS, but security_profile {profile} is demanded of it"
            self._tell("station_unencrypted", who, text)
            return HTTPStatus.FORBIDDEN, "TLS is required\n"
        if profile not in {0, 3} and not await self._password(station, headers, host):
            return _WRONG
        for code in ("station_certificate", "station_unencrypted", "station_unauthorized", "station_flood"):
            self._over(code, who)
        return None

    def profile(self, who: str) -> int:
        """The security profile that is demanded of a station; 0: whoever reaches us may pose as it."""
        stated = self._profiles[who]
        if stated is not None:
            return stated
        has_password = self._stations[who].password is not None or self._access.credential(who) is not None
        return 1 if has_password else 0

    def assumed(self, request: Request | None, who: str) -> str | None:
        """The subprotocol of a station that names none in its handshake, by the site file; one that names others is not it."""
        station = self._stations.get(who)
        return None if names_versions(request) or station is None else station.assume_subprotocol

    def still_good(self, transport: Any, who: str) -> bool:
        """Whether the certificate that a connected station came in with has not been revoked since."""
        peer = Peer.of(transport)
        good = peer is None or peer.serial not in self._revoked
        if not good:
            self._tell("station_certificate", who, f"{who} was cut off: its certificate is revoked")
        return good

    def _certificate(self, peer: Peer | None, who: str, *, needed: bool) -> str | None:
        if peer is None:
            return "security profile 3 wants a certificate, and it showed none that our CAs signed" if needed else None
        if peer.serial in self._revoked:
            return "its certificate is revoked; issue a new one by cem pki issue"
        if peer.common_name not in {who, self._carried.get(who)}:
            return f"its certificate is that of {str(peer.common_name)[:48]!r}"
        return None

    async def _password(self, station: StationSection, headers: Headers, host: str) -> bool:
        """HTTP Basic (security profiles 1 and 2): the identity is the user name."""
        who = station.id
        kept = self._access.credential(self._carried.get(who, who))
        if await self._next(station, headers, host):
            return True
        if kept is None and station.password is None and self._profiles[who] is None:
            return True
        now_s = self._clock.monotonic_s()
        guesses = self._guesses.of((source(host), who), now_s)
        given = _given(headers, who)
        good = False
        if given is not None and self._fast(given, kept, station):
            good = True
        elif given is not None and guesses.try_take(now_s):
            good = await self._slow(given, kept, station)
        if not good:
            known = (
                "the right one" if kept is not None or station.password is not None else "set: cem station set-password"
            )
            text = f"{who} was refused: its password is missing or not {known}"
            self._tell("station_unauthorized", who, text)
        return good

    async def _next(self, station: StationSection, headers: Headers, host: str) -> bool:
        """A station in the middle of a change of password: it comes in with the new one, which is then the only one."""
        following, given = self._access.next_credential(station.id), _given(headers, station.id)
        now_s = self._clock.monotonic_s()
        if following is None or given is None or self._fast(given, self._access.credential(station.id), station):
            return False
        guesses = self._guesses.of((source(host), station.id), now_s)
        if not guesses.try_take(now_s) or not await self._slow(given, following, station):
            return False
        try:
            await asyncio.to_thread(self._access.confirm, station.id)
        except CemError as problem:
            self._tell("credentials_unwritable", station.id, f"{station.id}: both passwords still count: {problem}")
        else:
            self._came_in_with_next(station.id)
        return True

    def _mark(self, given: bytes, kept: Any, station: StationSection) -> bytes:
        what = f"{None if kept is None else kept['digest']}/{station.id}/".encode()
        return hmac.digest(self._secret, what + hashlib.sha256(given).digest(), "sha256")

    def _fast(self, given: bytes, kept: Any, station: StationSection) -> bool:
        """The very password that was proven before; a reconnect of all stations hashes nothing."""
        if kept is None:
            return station.password is not None and same_password(given, station.password)
        proven = self._proven.get(station.id)
        return proven is not None and hmac.compare_digest(proven, self._mark(given, kept, station))

    async def _slow(self, given: bytes, kept: Any, station: StationSection) -> bool:
        if kept is None:
            return False
        async with self._hashing:
            good = await asyncio.to_thread(matches, given, kept)
        if good:
            if len(self._proven) >= MOST_FAST:
                self._proven.clear()
            self._proven[station.id] = self._mark(given, kept, station)
        return good


def _given(headers: Headers, who: str) -> bytes | None:
    """The password of the header, which may be any bytes; ``None`` where the header or the user name is not as it should."""
    lines = headers.get_all("Authorization")
    if len(lines) != 1:
        return None
    scheme, _, encoded = lines[0].partition(" ")
    try:
        both = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    name = f"{who}:".encode()  # an identity may itself hold a colon
    return both[len(name) :] if scheme.lower() == "basic" and both.startswith(name) else None


def names_versions(request: Request | None) -> bool:
    """Whether a handshake names any subprotocol at all."""
    return request is None or any(line.strip() for line in request.headers.get_all("Sec-WebSocket-Protocol"))
