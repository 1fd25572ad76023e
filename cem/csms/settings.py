"""Settings that control and the cloud both care for: ours stay on the station, the cloud reads back its own.

Control needs samples more often, and of more measurands, than most clouds ask for. What the cloud set, or what the station
had before we came, is kept here: the station is given the shorter interval and all measurands, the cloud is shown its own
values and is sent what it asked for.

In 1.6 a sample in between is not sent up at all. In 2.x it is a numbered event of its transaction (seqNo), and a number that
is missing means a loss to a cloud; so the event goes up without its meter values, unless the site file chooses to drop it,
as OCPP 2.0.1 E04 lets a station do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import orjson

from cem.csms.actions import Action, Persist
from cem.csms.cutting import cut_samples
from cem.csms.facts import Fact, MeterTold, TransactionTold
from cem.csms.frames import Frame, Kind, with_value, without
from cem.csms.metering import instant, items
from cem.csms.parsing import member, whole, words
from cem.csms.records import Kept
from cem.csms.thinning import WHERE_DENSE, thin

NAME = "settings"
INTERVALS = {"metervaluesampleinterval", "txupdatedinterval"}
MEASURANDS = {"metervaluessampleddata", "txupdatedmeasurands"}
STOPS = {"stoptransactiononinvalidid", "stoptxoninvalidid"}
_OWN_COMPONENT = {"txupdatedinterval", "txupdatedmeasurands"}
_KEYS = INTERVALS | MEASURANDS | STOPS
_LONGEST_S = 86_400
_SLACK = 0.9
"""A sample that is a little early is the one that was asked for."""
_MOST_EVSES = 200


class Settings:
    """What one cloud set at one station.

    Args:
        station_id: Identity.
        our_interval_s: How often control wants samples.
        out: Where actions go.
        drop: 2.x samples in between are dropped, not emptied.
    """

    def __init__(self, station_id: str, our_interval_s: float, out: list[Action], *, drop: bool = False) -> None:
        self._station_id = station_id
        self._our_interval_s = our_interval_s
        self._out = out
        self._drop = drop
        self._values: dict[str, str] = {}
        self._last: dict[int | None, datetime] = {}
        self._state: dict[int | None, str | None] = {}

    def restore(self, kept: Any) -> None:
        """Takes over what was kept over a restart."""
        if isinstance(kept, Mapping):
            self._values = {key: value for key, value in kept.items() if key in _KEYS and isinstance(value, str)}

    # -- what is asked of the station --------------------------------------------------------------------------------

    @property
    def interval_s(self) -> int:
        """What the station is to sample at: as often as the hastier of the two wants."""
        wanted = [s for s in (whole(self._of(INTERVALS)), int(self._our_interval_s)) if s]
        return min(wanted)

    @property
    def measurands(self) -> tuple[str, ...]:
        """What the cloud wants sampled; empty where that is not known."""
        return tuple(name.strip() for name in (self._of(MEASURANDS) or "").split(",") if name.strip())

    @property
    def stops_on_invalid(self) -> bool | None:
        """Whether the station ends a transaction whose token turns out to be bad; ``None``: not known."""
        told = self._of(STOPS)
        return None if told is None else told.strip().lower() == "true"

    def _of(self, keys: set[str]) -> str | None:
        return next((self._values[key] for key in keys if key in self._values), None)

    # -- what is learned ---------------------------------------------------------------------------------------------

    def take(self, name: Any, value: Any, component: Any = None, attribute: Any = None) -> bool:
        """Whether this setting of the cloud is kept here instead of being sent to the station: a longer interval."""
        key, seconds = _key(name, component, attribute), whole(value)
        if key not in INTERVALS or seconds is None or not 0 <= seconds <= _LONGEST_S:
            return False  # the station knows how to refuse it
        if 0 < seconds < self._our_interval_s:
            return False  # it must sample faster
        self.keep(key, str(seconds))
        return True

    def sent_down(self, name: Any, value: Any, component: Any = None, attribute: Any = None) -> str | None:
        """The value that the station is given instead of the cloud's: with our measurands; ``None``: the cloud's own."""
        key = _key(name, component, attribute)
        if key not in MEASURANDS or not isinstance(value, str):
            return None
        return with_ours(value.split(","))

    def keep(self, name: Any, value: Any) -> None:
        """The cloud has made this setting, by its own belief; what it is of no concern of ours is not kept."""
        key = str(name).lower()
        if key in _KEYS and isinstance(value, str) and self._values.get(key) != value:
            self._values[key] = value
            self._last.clear()
            self._out.append(Persist((Kept(self._station_id, NAME, orjson.dumps(self._values).decode()),)))

    def told(self, answer: Frame | None) -> None:
        """The station's own settings from before ours: what nobody set otherwise is what the cloud believes in."""
        if answer is None or answer.kind is not Kind.RESULT:
            return
        for name, value in settings_in(answer.payload):
            if name.lower() in STOPS or (name.lower() in _KEYS and name.lower() not in self._values):
                self.keep(name, value)

    def shown(self, frame: Frame) -> str:
        """What the station says of its settings, with the cloud's own values: an answer, or a report (2.x)."""
        text = frame.text
        for member_name in ("configurationKey", "getVariableResult", "reportData"):
            told = frame.payload.get(member_name)
            entries = [dict(entry) for entry in items(told)]
            changed = [self._show(entry) for entry in entries]
            if isinstance(told, list) and len(entries) == len(told) and any(changed):
                text = with_value(text, member_name, entries)
        return text

    def _show(self, entry: dict[str, Any]) -> bool:
        """Puts the cloud's value in; whether there was anything to do."""
        name = (words(entry.get("key")) or words(member(entry.get("variable"), "name")) or "").lower()
        ours = self._values.get(name)
        if ours is None or name in STOPS:
            return False
        if isinstance(attributes := entry.get("variableAttribute"), list):
            entry["variableAttribute"] = [
                {**a, "value": ours} if isinstance(a, Mapping) and "value" in a and _actual(a.get("type")) else a
                for a in attributes
            ]
            return True
        value_name = "value" if "key" in entry else "attributeValue"
        if value_name not in entry or not _actual(entry.get("attributeType")):
            return False
        entry[value_name] = ours
        return True

    # -- what goes up ------------------------------------------------------------------------------------------------

    def upward(self, frame: Frame, fact: Fact | None) -> Frame | None:
        """A message as the cloud asked for it; ``None`` where it did not ask for any of it.

        Only plain periodic samples are touched: never a signed value, a first or last one, or what says more.
        """
        if frame.action == "NotifyReport":
            return replace(frame, text=self.shown(frame)) if self._values else frame
        if frame.action not in {"MeterValues", "TransactionEvent"} or not self._values:
            return frame
        if not isinstance(fact, TransactionTold | MeterTold):
            return frame
        state = fact.state if isinstance(fact, TransactionTold) else None
        same = state is None or self._state.get(fact.evse) == state
        if len(self._state) > _MOST_EVSES:
            self._state.clear()
            self._last.clear()
        self._state[fact.evse] = state if state is not None else self._state.get(fact.evse)
        if thin("update", frame.text, frame.payload) != WHERE_DENSE:
            return frame
        text = None if self._between(frame, fact) else self._cut(frame)
        if text is not None:
            return frame if text == frame.text else replace(frame, text=text)
        if frame.action == "MeterValues" or (self._drop and same):
            return None
        return replace(frame, text=without(frame.text, "meterValue"))

    def _between(self, frame: Frame, fact: TransactionTold | MeterTold) -> bool:
        """Whether a sample comes before the cloud wants the next."""
        wanted_s = whole(self._of(INTERVALS))
        if wanted_s is None:
            return False
        if wanted_s == 0:  # 1.6 section 9.1.18, 2.0.1 TxUpdatedInterval: none at all
            return True
        times = [at for value in items(frame.payload.get("meterValue")) if (at := instant(value.get("timestamp")))]
        if not times:
            return False
        newest, last = max(times), self._last.get(fact.evse)
        if last is not None and 0 <= (newest - last).total_seconds() < _SLACK * wanted_s:
            return True
        self._last[fact.evse] = newest
        return False

    def _cut(self, frame: Frame) -> str | None:
        """Without what was sampled for control alone; ``None`` where nothing is left."""
        wanted = self.measurands
        if not wanted:
            return frame.text

        def keep(sample: Mapping[str, Any]) -> bool:
            name = str(sample.get("measurand", "Energy.Active.Import.Register"))
            return any(one == name or one.startswith(f"{name}.") for one in wanted)

        return cut_samples(frame.text, keep)


def with_ours(cloud: Sequence[str], ours: str | None = None) -> str:
    """A list of measurands with ours (by default all that control likes to see) before the cloud's."""
    names = [*(OURS if ours is None else ours).split(","), *(name.strip() for name in cloud)]
    return ",".join(dict.fromkeys(name for name in names if name))


OURS = "Current.Import,Power.Active.Import,Energy.Active.Import.Register,Voltage"


def _key(name: Any, component: Any, attribute: Any) -> str:
    """A setting's name in small letters; empty where it is another component's, or not the value itself."""
    key = str(name).lower()
    if key in _OWN_COMPONENT and component is not None and str(component).lower() != "sampleddatactrlr":
        return ""
    return key if _actual(attribute) else ""


def _actual(attribute: Any) -> bool:
    return attribute in (None, "Actual")


def settings_in(payload: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and value of each setting in an answer of the station."""
    found = [(entry.get("key"), entry.get("value")) for entry in items(payload.get("configurationKey"))]
    found += [
        (member(entry.get("variable"), "name"), entry.get("attributeValue"))
        for entry in items(payload.get("getVariableResult"))
        if _actual(entry.get("attributeType"))
    ]
    return [(name, value) for name, value in found if isinstance(name, str) and isinstance(value, str)]
