"""CPU of a station's session alone, frames in and actions out: no sockets, no disk, so that it tells the same on a busy machine."""

import json
import time
import uuid
from datetime import UTC, datetime

from cem.core.site import Evse
from cem.csms.actions import OpenUpstream, SendDown, SendUp
from cem.csms.moment import Now
from cem.csms.session import Options, StationSession
from tests.benchmarks._proxy_traffic import BOOT, SUBPROTOCOL, Talk, answer_text

STATIONS, ROUNDS, CALLS = 50, 20, 20


class Station:
    """One that talks all day, with its cloud."""

    def __init__(self, number: int) -> None:
        evses = [Evse(f"CS{number}/1", f"CS{number}", "site", 1, max_a=32, fallback_a=6)]
        self._session = StationSession(
            f"CS{number}", evses, 230.0, Options(upstream=True), lambda: str(uuid.uuid4()), lambda: 1
        )
        self._talk = Talk(number)
        self._asked = 0
        self.cpu_s = 0.0
        self.frames = 0
        self._session.station_opened(SUBPROTOCOL, self._now())
        self._session.upstream_opened(self._now())
        self._call("BootNotification", BOOT)

    @staticmethod
    def _now() -> Now:
        return Now(time.monotonic(), datetime.now(UTC))

    def _feed(self, frame: str, *, up: bool) -> list[str]:
        """Frames for the station that follow from this one."""
        began_s = time.thread_time()
        now = self._now()
        actions = self._session.upstream_frame(frame, now) if up else self._session.station_frame(frame, now)
        self.cpu_s += time.thread_time() - began_s
        self.frames += 1
        down = [action.text for action in actions if isinstance(action, SendDown)]
        for action in actions:
            assert not isinstance(action, OpenUpstream)
            if isinstance(action, SendUp) and (answer := answer_text(action.text)) is not None:
                down += self._feed(answer, up=True)
        return down

    def _call(self, action: str, payload: object) -> None:
        self._asked += 1
        waiting = self._feed(json.dumps([2, str(self._asked), action, payload]), up=False)
        while waiting:
            kind, message_id, *rest = json.loads(waiting.pop(0))
            if kind == 2:
                waiting += self._feed(json.dumps([3, message_id, {"status": "Accepted"}]), up=False)
            else:
                assert message_id == str(self._asked)
                self._talk.told(rest[0])

    def say(self, calls: int) -> None:
        """So many CALLs, each answered."""
        for _ in range(calls):
            self._call(*self._talk.next())


def run() -> dict[str, float]:
    """CPU of a frame, the least of some rounds: what the machine adds is never less than nothing."""
    stations = [Station(number) for number in range(STATIONS)]
    costs = []
    for _ in range(ROUNDS):
        for station in stations:
            station.cpu_s, station.frames = 0.0, 0
        for station in stations:
            station.say(CALLS)
        costs.append(1e6 * sum(s.cpu_s for s in stations) / sum(s.frames for s in stations))
    return {"proxy.session_us_per_frame": min(costs)}


if __name__ == "__main__":
    print(run())
