"""A station and a cloud made with the ``ocpp`` library, our proxy between them, and any message from one to the other."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

from ocpp.charge_point import camel_to_snake_case, remove_nones, serialize_as_dict, snake_to_camel_case

from tests.adapters.ocpp_peers import cloud, local_csms, station, until

SAMPLING = {"MeterValueSampleInterval", "TxUpdatedInterval"}
"""The last that a station is asked when it is accepted."""


def plain(made: Any) -> dict[str, Any]:
    """A message of the library as the JSON that it stands for."""
    return snake_to_camel_case(remove_nones(serialize_as_dict(made)))


def hear(peer: Any, action: str, answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Lets a peer answer an action; gives the list of what it hears of it."""
    heard: list[dict[str, Any]] = []

    def handle(**payload: Any) -> Any:
        heard.append(snake_to_camel_case(payload))
        return getattr(peer._call_result, action)(**camel_to_snake_case(answer))

    peer.route_map[action] = {"_on_action": handle}
    return heard


def message(peer: Any, action: str, payload: dict[str, Any]) -> Any:
    """A CALL as the library of the peer has it, which may write down what is left out."""
    kind = getattr(peer._call, action)
    fields = {field.name.replace("_", ""): field.name for field in dataclasses.fields(kind)}  # some have one more "_"
    return kind(**{fields[key.lower()]: camel_to_snake_case(value) for key, value in payload.items()})


async def ask(peer: Any, action: str, payload: dict[str, Any]) -> dict[str, Any]:
    """One CALL of a peer, which checks it and its answer against the schemas; gives the answer, or raises a CALLERROR."""
    return plain(await asyncio.wait_for(peer.call(message(peer, action, payload), suppress=False), 10))


class Joined:
    """A station that has booted, seen from both sides."""

    def __init__(self, sky: Any, local: Any, peer: Any) -> None:
        self.sky, self.local, self.peer = sky, local, peer
        self.version = peer.version.removeprefix("ocpp")

    @property
    def is_16(self) -> bool:
        return self.version == "1.6"

    @property
    def status(self) -> dict[str, Any]:
        """What the controller shows of the station."""
        return self.local.server.status()["stations"][0]

    async def down(self, action: str, payload: dict[str, Any], answer: dict[str, Any] | None = None) -> None:
        """The cloud asks: the station hears it as it was said, and the cloud has the answer as it was given."""
        given = {"status": "Accepted"} if answer is None else answer
        heard = hear(self.peer, action, given)
        assert await ask(self.sky.peers["S1"], action, payload) == given
        assert heard.count(plain(message(self.sky.peers["S1"], action, payload))) == 1, heard

    async def kept(self, action: str, payload: dict[str, Any]) -> dict[str, Any]:
        """The cloud asks what does not reach the station; gives the answer."""
        heard = hear(self.peer, action, {"status": "Accepted"})
        answer = await ask(self.sky.peers["S1"], action, payload)
        assert plain(message(self.sky.peers["S1"], action, payload)) not in heard
        return answer

    async def up(self, action: str, payload: dict[str, Any], answer: dict[str, Any] | None = None) -> None:
        """The station tells: the cloud hears it as it was said, and the station has the answer as it was given."""
        given = {} if answer is None else answer
        heard = hear(self.sky.peers["S1"], action, given)
        assert await ask(self.peer, action, payload) == given
        assert heard.count(plain(message(self.peer, action, payload))) == 1, heard


@contextlib.asynccontextmanager
async def joined(kind: Any, **options: Any) -> AsyncIterator[Joined]:
    """A station that is accepted by its cloud, through the proxy."""
    async with (
        cloud() as sky,
        local_csms(upstream=sky.url, allowed_hosts=("files.example",), **options) as local,
        station(kind, local.address) as peer,
    ):
        assert await peer.boot() == "Accepted"
        await until(lambda: peer.seen.has("TxDefaultProfile", 6.0))
        await until(lambda: any(key in SAMPLING for key, _ in peer.seen.configured))
        yield Joined(sky, local, peer)
