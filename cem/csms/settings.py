"""Settings that the cloud believes to have made: ours stay on the station, the cloud reads back its own.

Control needs samples more often than most clouds ask for. The sampling interval is kept here for the cloud, and in
1.6 the samples in between are not sent up.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson

from cem.csms.actions import Action, Persist
from cem.csms.facts import Fact, MeterTold, TransactionTold
from cem.csms.frames import Frame, with_value
from cem.csms.metering import instant, items
from cem.csms.parsing import member, whole, words
from cem.csms.records import Kept
from cem.csms.thinning import WHERE_DENSE, thin

NAME = "settings"
INTERVAL_16, INTERVAL_2 = "MeterValueSampleInterval", "TxUpdatedInterval"
_KEYS = {INTERVAL_16.lower(), INTERVAL_2.lower()}
_LONGEST_S = 86_400
_SLACK = 0.9
"""A sample that is a little early is the one that was asked for."""


class Settings:
    """What one cloud set at one station.

    Args:
        station_id: Identity.
        out: Where actions go.
    """

    def __init__(self, station_id: str, out: list[Action]) -> None:
        self._station_id = station_id
        self._out = out
        self._values: dict[str, str] = {}
        self._last: dict[int | None, datetime] = {}

    def restore(self, kept: Any) -> None:
        """Takes over what was kept over a restart."""
        if isinstance(kept, Mapping):
            self._values = {key: value for key, value in kept.items() if key in _KEYS and isinstance(value, str)}

    def take(self, name: Any, value: Any, component: Any = None, attribute: Any = None) -> bool:
        """Whether this setting is kept here instead of being sent to the station."""
        key = str(name).lower()
        if key not in _KEYS or (component is not None and str(component).lower() != "sampleddatactrlr"):
            return False
        seconds = whole(value)
        if attribute not in {None, "Actual"} or seconds is None or not 0 <= seconds <= _LONGEST_S:
            return False  # the station knows how to refuse it
        self._values[key] = str(seconds)
        self._last.clear()
        self._out.append(Persist((Kept(self._station_id, NAME, orjson.dumps(self._values).decode()),)))
        return True

    def shown(self, answer: Frame) -> str:
        """The station's answer to a question for settings, with the cloud's own values."""
        text = answer.text
        for member_name, value_name in (("configurationKey", "value"), ("getVariableResult", "attributeValue")):
            told = answer.payload.get(member_name)
            entries = [dict(entry) for entry in items(told)]
            if not isinstance(told, list) or len(entries) != len(told):
                continue
            changed = False
            for entry in entries:
                name = words(entry.get("key")) or words(member(entry.get("variable"), "name")) or ""
                ours = self._values.get(name.lower())
                if ours is not None and value_name in entry and entry.get("attributeType") in {None, "Actual"}:
                    entry[value_name] = ours
                    changed = True
            if changed:
                text = with_value(text, member_name, entries)
        return text

    def drops(self, frame: Frame, fact: Fact | None) -> bool:
        """Whether the cloud did not ask for this message: a plain sample between two that it wants (1.6).

        A 2.x sample is a numbered event of its transaction, and a gap in the numbers would be a loss.
        """
        wanted_s = whole(self._values.get(INTERVAL_16.lower()))
        if frame.action != "MeterValues" or wanted_s is None:
            return False
        if (
            not isinstance(fact, TransactionTold | MeterTold)
            or thin("update", frame.text, frame.payload) != WHERE_DENSE
        ):
            return False
        if wanted_s == 0:  # 1.6 section 9.1.18: none at all
            return True
        times = [at for value in items(frame.payload.get("meterValue")) if (at := instant(value.get("timestamp")))]
        if not times:
            return False
        newest, last = max(times), self._last.get(fact.evse)
        if last is not None and 0 <= (newest - last).total_seconds() < _SLACK * wanted_s:
            return True
        self._last[fact.evse] = newest
        return False
