"""Wishes for EVSEs: handed in by any thread, taken by control at its next cycle, kept through a restart."""

import logging
import math
import queue
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

from cem.core.site import Mode, Site
from cem.core.state import EvseState
from cem.core.wish import Wish

log = logging.getLogger(__name__)

ROOM = 100
"""Wishes that wait for the next cycle; more at once are refused."""

KEY = "wishes"
SAVE_S = 60.0
"""How often what was delivered is kept."""

LONGEST_GAP_S = 60.0
"""No energy is counted over a longer gap between two cycles."""


class StateStore(Protocol):
    """Small persisted values, by name."""

    def save_state(self, key: str, value: Any) -> None: ...
    def load_state(self, key: str) -> Any: ...


class Wishes:
    """The wishes of all EVSEs.

    Args:
        site: As built.
        store: Where they are kept.
        news: Called when one was handed in; must be safe from any thread.
    """

    def __init__(self, site: Site, store: StateStore, news: Callable[[], object] = lambda: None) -> None:
        self._site = site
        self._known = {evse.evse_id: evse.phases for evse in site.evses}
        self._store = store
        self._news = news
        self._queue: queue.Queue[tuple[str, Wish]] = queue.Queue(ROOM)
        kept = store.load_state(KEY)
        self._wishes = _from_record(kept, self._known)
        self._charging = {evse_id: kept[evse_id].get("charging") is True for evse_id in self._wishes}
        self._waiting: dict[str, Wish] = {}
        self._last_s: float | None = None
        self._saved_s = -math.inf

    def hand_in(self, evse_id: str, wish: Wish) -> bool:
        """From any thread: wish something; ``False`` where too many wait or there is no such EVSE."""
        if evse_id not in self._known:
            return False
        self._waiting[evse_id] = wish
        try:
            self._queue.put_nowait((evse_id, wish))
        except queue.Full:
            self._waiting.pop(evse_id, None)
            return False
        self._news()
        return True

    def current(self) -> Mapping[str, Wish]:
        """The wishes in force."""
        return self._wishes

    def latest(self, evse_id: str) -> Wish:
        """The wish of an EVSE that was handed in last, taken by control already or not; an empty one for none."""
        return self._waiting.get(evse_id) or self._wishes.get(evse_id) or Wish()

    def take(self, states: Mapping[str, EvseState], now_s: float, utc: datetime) -> dict[str, EvseState]:
        """The EVSEs' states with every wish in them; counts what was delivered and keeps what changed."""
        changed = self._drain()
        gap_s = 0.0 if self._last_s is None else now_s - self._last_s
        self._last_s = now_s
        for evse_id in list(self._wishes):
            wish = self._wishes[evse_id]
            state = states.get(evse_id)
            if state is None or not state.online:
                continue
            if self._charging.get(evse_id) and not state.charging:
                self._wishes[evse_id] = wish.left()
                changed = True
            elif state.charging and not self._charging.get(evse_id):
                changed = True
            elif state.charging and gap_s <= LONGEST_GAP_S:
                self._wishes[evse_id] = wish.met(self._power_w(state, now_s) * gap_s / 3600)
            self._charging[evse_id] = state.charging
        self._wishes = {evse_id: wish for evse_id, wish in self._wishes.items() if not wish.empty}
        counting = any(wish.target_wh is not None for wish in self._wishes.values())
        if changed or (counting and now_s - self._saved_s >= SAVE_S):
            self._saved_s = now_s
            self._store.save_state(KEY, {name: self._to_record(name) for name in self._wishes})
        return {
            evse_id: self._wishes[evse_id].on(state, now_s, utc) if evse_id in self._wishes else state
            for evse_id, state in states.items()
        }

    def _drain(self) -> bool:
        changed = False
        while True:
            try:
                evse_id, wish = self._queue.get_nowait()
            except queue.Empty:
                return changed
            self._wishes = {**self._wishes, evse_id: wish}
            if self._waiting.get(evse_id) is wish:
                self._waiting.pop(evse_id, None)
            self._charging.pop(evse_id, None)
            log.info("%s: %s", evse_id, describe(wish))
            changed = True

    def _power_w(self, state: EvseState, now_s: float) -> float:
        """What it is measured to take; an old or missing value delivers nothing, so a target is never missed by it."""
        if state.measured_a is None or state.measured_s is None:
            return 0.0
        if now_s - state.measured_s > 2 * state.report_interval_s:
            return 0.0
        return max(0.0, state.measured_a.total) * self._site.nominal_voltage_v

    def _to_record(self, evse_id: str) -> dict[str, Any]:
        wish = self._wishes[evse_id]
        return {
            "mode": None if wish.mode is None else wish.mode.value,
            "target_wh": wish.target_wh,
            "departure_utc": None if wish.departure_utc is None else wish.departure_utc.isoformat(),
            "delivered_wh": wish.delivered_wh,
            "limit_a": wish.limit_a,
            "charging": self._charging.get(evse_id, False),
        }


def describe(wish: Wish) -> str:
    """For people."""
    words = [f"mode {wish.mode.value}" if wish.mode is not None else "mode as the site says"]
    if wish.limit_a is not None:
        words.append(f"at most {wish.limit_a:g} A")
    if wish.target_wh is not None:
        words.append(f"{wish.target_wh / 1000:g} kWh")
    if wish.departure_utc is not None:
        words.append(f"by {wish.departure_utc.isoformat(timespec='minutes')}")
    return ", ".join(words)


def _from_record(kept: Any, known: Mapping[str, int]) -> dict[str, Wish]:
    """What was kept, for EVSEs that still are; what cannot be read is left out."""
    found: dict[str, Wish] = {}
    for evse_id, record in kept.items() if isinstance(kept, dict) else ():
        if evse_id not in known or not isinstance(record, dict):
            continue
        try:
            wish = Wish(
                None if record["mode"] is None else Mode(record["mode"]),
                None if record["target_wh"] is None else float(record["target_wh"]),
                None if record["departure_utc"] is None else datetime.fromisoformat(record["departure_utc"]),
                float(record["delivered_wh"]),
                None if record.get("limit_a") is None else float(record["limit_a"]),
            )
        except (KeyError, TypeError, ValueError):
            continue
        found[evse_id] = wish
    return found
