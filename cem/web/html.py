"""The page's parts as HTML, from one picture of the site. Pure; everything from outside is escaped."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from cem.ports import Event
from cem.web.snapshot import SiteView

SECTIONS = ("head", "zones", "evses", "limits", "devices", "csms", "events")
MISSING = "–"
MINUS = "−"

_HEALTH = {"ok": ("good", "running"), "starting": ("warn", "starting"), "stalled": ("bad", "control stalled")}
_STATUS_COLOURS = (
    ("bad", ("fault", "uncontrol")),
    ("off", ("offline", "unavailable", "unknown")),
    ("warn", ("suspended", "paused", "finishing", "reserved", "waiting")),
    ("busy", ("charging",)),
    ("idle", ("preparing", "occupied", "connected", "connector")),
    ("good", ("available", "idle")),
)


def draw(site_name: str, view: SiteView | None, state: Mapping[str, Any], events: Sequence[Event]) -> dict[str, str]:
    """Every section of the page.

    Args:
        site_name: For people.
        view: The latest picture; ``None`` before the first.
        state: Body of ``/healthz``.
        events: The latest, newest first.
    """
    view = view or {}
    return {
        "head": _head(site_name, view, state),
        "zones": _card_grid("Zones", _zones(view.get("zones") or {})),
        "evses": _card("Charging points", _evses(view.get("evses") or {})),
        "limits": _card("External limits", _limits(view.get("external_limits") or {})),
        "devices": _card(
            "Devices", _things(_named(view.get("devices") or {}, "device"), "No device has answered yet.")
        ),
        "csms": _card("Stations and operator", _csms(view.get("csms") or {})),
        "events": _card("Recent events", _events(events)),
    }


def amps(value: float | None) -> str:
    """``12.5 A``; a dash where missing."""
    return MISSING if value is None else f"{_figure(value)}\u202fA"


def kilowatts(value_w: float | None) -> str:
    """``4.2 kW``; a dash where missing."""
    return MISSING if value_w is None else f"{_figure(value_w / 1000)}\u202fkW"


def _figure(value: float) -> str:
    text = f"{value:.1f}"
    return "0.0" if text in {"-0.0", "0.0"} else text.replace("-", MINUS)


def _head(site_name: str, view: SiteView, state: Mapping[str, Any]) -> str:
    colour, word = _HEALTH.get(str(state.get("status")), ("warn", str(state.get("status"))))
    stale = [str(zone_id) for zone_id, zone in (view.get("zones") or {}).items() if zone.get("stale")]
    if colour == "good" and stale:
        colour, word = "warn", f"running, no fresh meter: {', '.join(stale)}"
    problems = "".join(f'<li class="problem">{escape(str(problem))}</li>' for problem in view.get("problems") or ())
    cycle = view.get("cycle") or {}
    facts = [f"cycle p99 {cycle['p99_ms']:.0f}\u202fms"] if cycle.get("p99_ms") is not None else []
    time = str(view.get("time") or "")
    facts.append(f"{escape(time[:10])} {escape(time[11:19])} UTC" if time else "no data yet")
    return (
        f'<header><h1>{escape(site_name)}</h1><span class="badge {colour}" data-health="{escape(str(state.get("status")))}">'
        f'{escape(word)}</span><span class="facts">{" · ".join(facts)}</span></header>'
        + (f'<ul class="problems">{problems}</ul>' if problems else "")
    )


def _card(title: str, body: str) -> str:
    return f'<section class="card"><h2>{title}</h2>{body}</section>'


_LEGEND = (
    '<span class="legend"><span><i class="used"></i>measured</span><span><i class="export"></i>fed back</span>'
    '<span><i class="over"></i>above the limit</span><span><i class="held"></i>granted and reserved</span>'
    '<span><i class="mark"></i>limit</span></span>'
)


def _card_grid(title: str, cards: str) -> str:
    return f'<div class="zones-head"><h2>{title}</h2>{_LEGEND}</div><div class="cards">{cards}</div>'


def _zones(zones: Mapping[str, Mapping[str, Any]]) -> str:
    if not zones:
        return '<p class="none">No zone has been calculated yet.</p>'
    return "".join(_zone(str(zone_id), zone, zones) for zone_id, zone in zones.items())


def _zone(zone_id: str, zone: Mapping[str, Any], zones: Mapping[str, Mapping[str, Any]]) -> str:
    meter = str(zone.get("meter") or "lost")
    stale = f'<span class="badge bad">meter {escape(meter)}</span>' if zone.get("stale") else ""
    source = zone.get("limit_source")
    source = f'<span class="badge plain">limit set by {escape(str(source))}</span>' if source else ""
    path: list[str] = []
    parent = zone.get("parent")
    while parent is not None and parent in zones and parent not in path:
        path.append(parent)
        parent = zones[parent].get("parent")
    above = f'<span class="above">{escape(" › ".join(str(p) for p in reversed(path)))} ›</span>' if path else ""
    total = f'<p class="total">total limit {kilowatts(zone["limit_w"])}</p>' if zone.get("limit_w") is not None else ""
    columns = [_phases(zone.get(key)) for key in ("limit_a", "measured_a", "granted_a", "reserved_a")]
    rows = "".join(_phase_row(phase, *(column[phase] for column in columns)) for phase in range(3))
    return (
        f'<article class="card zone{" is-stale" if zone.get("stale") else ""}" data-zone="{escape(zone_id)}">'
        f"<h3>{above}{escape(zone_id)}</h3><p class=tags>{source}{stale}</p>"
        '<table><thead><tr><th></th><th class="wide"></th><th>measured</th><th>granted</th><th>reserved</th><th>limit</th>'
        f"</tr></thead><tbody>{rows}</tbody></table>{total}</article>"
    )


def _phase_row(
    phase: int, limit_a: float | None, measured_a: float | None, granted_a: float | None, reserved_a: float | None
) -> str:
    used, held = abs(measured_a or 0.0), max(0.0, (granted_a or 0.0) + (reserved_a or 0.0))
    scale_a = max(1.0, 1.15 * max(limit_a or 0.0, used, held))
    kind = "over" if limit_a is not None and (measured_a or 0.0) > limit_a + 0.05 else "in"
    if measured_a is not None and measured_a < 0:
        kind = "export"
    mark = "" if limit_a is None else f'<i class="mark" style="left:{100 * limit_a / scale_a:.1f}%"></i>'
    return (
        f"<tr><th>L{phase + 1}</th>"
        f'<td class="wide"><div class="bar"><i class="held" style="width:{100 * held / scale_a:.1f}%"></i>'
        f'<i class="used {kind}" style="width:{100 * used / scale_a:.1f}%"></i>{mark}</div></td>'
        f"<td>{amps(measured_a)}</td><td>{amps(granted_a)}</td><td>{amps(reserved_a)}</td><td>{amps(limit_a)}</td></tr>"
    )


def _phases(value: Any) -> tuple[float | None, ...]:
    """Three values from whatever the picture has: a list, one number for all, or nothing."""
    if isinstance(value, (int, float)):
        return (float(value),) * 3
    values = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
    return tuple((*values, None, None, None)[:3])


def _evses(evses: Mapping[str, Mapping[str, Any]]) -> str:
    if not evses:
        return '<p class="none">No charging point is set up.</p>'
    rows = "".join(_evse(str(evse_id), evse) for evse_id, evse in evses.items())
    return (
        '<table class="evses"><thead><tr><th>charging point</th><th>status</th><th class="num">may draw</th>'
        f'<th class="num">measured</th><th>why</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def _evse(evse_id: str, evse: Mapping[str, Any]) -> str:
    status = str(evse.get("status") or ("unknown" if evse.get("online", True) else "offline"))
    lowered = status.lower()
    colour = next((c for c, words in _STATUS_COLOURS if any(word in lowered for word in words)), "plain")
    measured: Any = evse.get("measured_a")
    if isinstance(measured, Sequence) and not isinstance(measured, str):
        wired = evse.get("phases")
        shown = measured[:wired] if isinstance(wired, int) else measured
        drawn = " / ".join(MISSING if v is None else _figure(v) for v in shown) + "\u202fA"
    else:
        drawn = amps(measured)
    return (
        f'<tr data-evse="{escape(evse_id)}"><td class="name">{escape(evse_id)}</td>'
        f'<td><span class="badge {colour}">{escape(status)}</span></td>'
        f'<td class="num" data-label="may draw">{amps(evse.get("setpoint_a"))}</td>'
        f'<td class="num" data-label="measured">{drawn}</td>'
        f'<td class="why">{escape(why(evse))}{_fault(evse)}</td></tr>'
    )


def why(evse: Mapping[str, Any]) -> str:
    """The sentence that says what bound an EVSE; its code where there is no sentence."""
    binding = evse.get("binding")
    text = binding.get("text") if isinstance(binding, Mapping) else None
    return str(text or evse.get("reason") or "")


def _fault(evse: Mapping[str, Any]) -> str:
    return f' <b class="fault">{escape(str(evse["fault"]))}</b>' if evse.get("fault") else ""


_CHANNEL_COLOURS = {"limited": "warn", "failsafe": "bad", "init": "warn"}


def _limits(limits: Mapping[str, Mapping[str, Any]]) -> str:
    if not limits:
        return '<p class="none">No outside limit is set up.</p>'
    rows = []
    for limit_id, limit in limits.items():
        state = str(limit.get("state") or "unknown")
        value = _with_unit(limit.get("value"), limit.get("unit"))
        words = [f'<span class="badge {_CHANNEL_COLOURS.get(state, "good")}">{escape(_words(state))}</span>']
        words.append(f"<b>{value}</b>" if limit.get("value") is not None else "no limit now")
        where = " of ".join(str(limit[key]) for key in ("kind", "zone") if limit.get(key))
        if where:
            words.append(f'<span class="key">{escape(where)}</span>')
        if limit.get("failsafe") is not None:
            words.append(f'<span class="key">failsafe {_with_unit(limit["failsafe"], limit.get("unit"))}</span>')
        if limit.get("problem"):
            words.append(f'<span class="fault">{escape(str(limit["problem"]))}</span>')
        rows.append(f'<dt>{escape(str(limit_id))}</dt><dd data-limit="{escape(str(limit_id))}">{" ".join(words)}</dd>')
    return f"<dl>{''.join(rows)}</dl>"


def _with_unit(value: float | None, unit: object) -> str:
    return kilowatts(value) if unit == "W" else amps(value)


def _things(things: Mapping[str, Any], nothing: str) -> str:
    """Things of any shape by name, so that what control adds to the picture shows up without a change here."""
    if not things:
        return f'<p class="none">{nothing}</p>'
    tables, facts = [], []
    for name, value in things.items():
        if isinstance(value, Sequence) and value and all(isinstance(row, Mapping) for row in value):
            tables.append(_table(value))
        else:
            facts.append(f"<dt>{escape(_words(str(name)))}</dt><dd>{_value(str(name), value)}</dd>")
    return "".join(tables) + (f"<dl>{''.join(facts)}</dl>" if facts else "")


def _csms(csms: Mapping[str, Any]) -> str:
    stations = csms.get("stations")
    shown = {**csms, "stations": [_station(station) for station in stations]} if stations else csms
    return _things(shown, "Nothing to report.")


def _station(station: Mapping[str, Any]) -> dict[str, Any]:
    """A station with what matters of its personality; ``cem station show`` has the rest."""
    shown = {key: value for key, value in station.items() if key != "personality"}
    own = station.get("personality")
    if not isinstance(own, Mapping):
        return shown
    falls_back = "falls back" if own.get("dead_man") else None
    return shown | {
        "limits_by": own.get("way"),
        "reaction_s": own.get("reaction_s"),
        "if_the_controller_dies": own.get("without_us") or falls_back,
    }


def _named(things: Mapping[str, Mapping[str, Any]], noun: str) -> Mapping[str, Any]:
    return {"": [{noun: name, **thing} for name, thing in things.items()]} if things else {}


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Things of one kind; a column that is empty for all of them is left out."""
    columns = [
        key for key in dict.fromkeys(key for row in rows for key in row) if any(_told(row.get(key)) for row in rows)
    ]
    head = "".join(f"<th>{escape(_words(str(key)))}</th>" for key in columns)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td data-label="{escape(_words(str(key)))}">{_value(str(key), row.get(key))}</td>' for key in columns
        )
        + "</tr>"
        for row in rows
    )
    return f'<table class="things"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _told(value: Any) -> bool:
    return value is not None and value not in ("", [])


def _value(name: str, value: Any) -> str:
    match value:
        case None | "" | [] | ():
            return MISSING
        case bool():
            return f'<span class="badge {"good" if value else "off"}">{"yes" if value else "no"}</span>'
        case 0 if name == "security_profile":
            return '<span class="badge bad">0, nothing asked</span>'
        case int() | float() if name.endswith("_a"):
            return amps(value)
        case int() | float() if name.endswith("_w"):
            return kilowatts(value)
        case int() | float() if name.endswith("_percent"):
            return f"{value:.0f}\u202f%"
        case int() | float() if name.endswith("_s"):
            return f"{value:.0f}\u202fs"
        case dict():
            return _join(
                f'<span class="pair"><span class="key">{escape(_words(str(key)))}</span> {_value(str(key), inner)}</span>'
                for key, inner in value.items()
                if inner is not None
            )
        case list() | tuple():
            return ", ".join(_value(name, inner) for inner in value)
        case _:
            return escape(str(value))


def _words(key: str) -> str:
    for suffix in ("_a", "_w", "_s", "_utc", "_percent"):
        key = key.removesuffix(suffix)
    return key.replace("_", " ")


def _join(parts: Iterable[str]) -> str:
    return " ".join(parts) or MISSING


def _events(events: Sequence[Event]) -> str:
    if not events:
        return '<p class="none">Nothing has happened yet.</p>'
    rows = "".join(
        f"<li><time>{event.at_utc:%H:%M:%S}</time><span><b>{escape(event.subject)}</b> {escape(event.text)}</span></li>"
        for event in events
    )
    return f'<ul class="events">{rows}</ul>'


def _subject(event: Event) -> str:
    return "" if event.subject in event.text else f"<b>{escape(event.subject)}</b> "
