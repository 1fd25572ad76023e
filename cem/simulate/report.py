"""One self-contained HTML page about a simulated time: figures, three plots as inlined SVG, every session."""

import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

from cem.core.site import Site
from cem.errors import CemError
from cem.simulate.figures import Course

ZONES_SHOWN = 6
ROWS_SHOWN = 200

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #1c2430; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.remark { color: #5b6675; margin-top: .2rem; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: .6rem; }
dl div { border: 1px solid #d8dee6; border-radius: .4rem; padding: .5rem .7rem; }
dt { color: #5b6675; font-size: .85rem; } dd { margin: 0; font-size: 1.15rem; font-variant-numeric: tabular-nums; }
figure { margin: 0; overflow-x: auto; } svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .15rem .7rem; border-bottom: 1px solid #e6eaf0; }
th:first-child, td:first-child { text-align: left; }
.bad { color: #b3261e; }
"""


def need_plots() -> None:
    """Say in time that plots cannot be drawn.

    Raises:
        CemError: matplotlib is missing.
    """
    try:
        import matplotlib  # noqa: F401, PLC0415, ICN001 - an optional extra, half a second to import
    except ImportError as error:
        raise CemError(
            "the report's plots are drawn by matplotlib, which is not installed; "
            "run: pip install 'cem-site-controller[report]', or leave --report out"
        ) from error


def report_html(site: Site, found: Mapping[str, Any], course: Course, title: str, remark: str) -> str:
    """The page.

    Args:
        site: As built.
        found: From ``figures``.
        course: The curves.
        title: What was simulated.
        remark: How.
    """
    plots = (
        ("Zone current against limit", _currents(site, course)),
        ("Who got what", _who(found["by_session"])),
        ("Energy by source", _sources(course)),
    )
    figures = "\n".join(f"<h2>{html.escape(name)}</h2>\n<figure>{svg}</figure>" for name, svg in plots)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{html.escape(title)}</h1>
<p class="remark">{html.escape(remark)}</p>
<dl>{_tiles(found)}</dl>
{figures}
<h2>Zones</h2>
{_zones(found["limits"])}
<h2>Sessions</h2>
{_sessions(found["by_session"])}
</body>
</html>
"""


def _tiles(found: Mapping[str, Any]) -> str:
    energy, sessions, limits, sources = found["energy"], found["sessions"], found["limits"], found["sources"]
    part = energy["delivered_of_requested"]
    trips = ", ".join(limits["would_trip"]) or "none"
    settling = max(limits["settling_s"], default=None)
    tiles = {
        "Energy delivered": f"{energy['delivered_kwh']:.1f} kWh",
        "of what was requested": "-" if part is None else f"{part:.1%}",
        "Sessions served in full": f"{sessions['fully_served']} of {sessions['count']}",
        "Fairness (Jain)": _text(sessions["jain_fairness"], ".3f"),
        "Above any limit": f"{limits['above_limit_as']:g} A·s",
        "Longest excess": f"{limits['longest_excess_s']:g} s",
        "Fuses that would trip": trips,
        "Slowest settling after a limit": "-" if settling is None else f"{settling:g} s",
        "Pauses per session": f"{sessions['pauses_per_session']:g}",
        "Reversals per session": f"{sessions['reversals_per_session']:g}",
        "Cars from the grid": f"{sources['cars_grid_kwh']:.1f} kWh",
        "Cars from PV and battery": f"{sources['cars_pv_kwh'] + sources['cars_battery_kwh']:.1f} kWh",
    }
    return "".join(f"<div><dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd></div>" for k, v in tiles.items())


def _zones(limits: Mapping[str, Any]) -> str:
    rows = [
        (zone_id, f"{z['peak_a']:.1f}", f"{z['peak_of_rating']:.0%}", f"{z['above_limit_as']:g}")
        for zone_id, z in limits["zones"].items()
    ]
    return _table(("Zone", "Peak A", "of its rating", "A·s above limit"), rows)


def _sessions(sessions: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            s["evse"],
            f"{s['begin_s'] / 3600:.1f}",
            "-" if s["end_s"] is None else f"{s['end_s'] / 3600:.1f}",
            _text(s["requested_kwh"], ".1f"),
            _text(s["delivered_kwh"], ".1f"),
            _text(s["first_current_s"], ".0f"),
            str(s["pauses"]),
        )
        for s in sessions[:ROWS_SHOWN]
    ]
    more = f"<p>{len(sessions) - ROWS_SHOWN} more are in the JSON.</p>" if len(sessions) > ROWS_SHOWN else ""
    head = ("EVSE", "from h", "to h", "asked kWh", "got kWh", "waited s", "pauses")
    return _table(head, rows) + more


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return f"<table>{row(head, 'th')}{''.join(row(cells, 'td') for cells in rows)}</table>"


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _figure(height: float, rows: int = 1) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # noqa: PLC0415 - an optional extra

    figure = Figure(figsize=(9.0, height), layout="constrained")
    return figure, figure.subplots(rows, 1, squeeze=False, sharex=True)[:, 0]


def _svg(figure: Any) -> str:
    import matplotlib as mpl  # noqa: PLC0415 - an optional extra

    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "cem", "svg.fonttype": "none"}):  # the same run gives the same file
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    found = text.getvalue()
    return found[found.index("<svg") :]


def _currents(site: Site, course: Course) -> str:
    ratings = {zone.zone_id: zone.protection.rating_a for zone in site.zones}
    busiest = sorted(ratings, key=lambda zone_id: -max(course.peak_a[zone_id], default=0.0) / ratings[zone_id])
    shown = [zone_id for zone_id in ratings if zone_id in busiest[:ZONES_SHOWN]]
    figure, axes = _figure(0.6 + 1.7 * len(shown), len(shown))
    hours = [i * course.bin_s / 3600 for i in range(len(course.bins))]
    for zone_id, axis in zip(shown, axes, strict=True):
        axis.fill_between(hours, course.peak_a[zone_id], step="post", color="#7fb3d5", label="highest phase")
        axis.step(hours, course.limit_a[zone_id], where="post", color="#b3261e", linewidth=1.2, label="limit")
        axis.set_ylabel(f"{zone_id}\nA")
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.25)
    axes[0].legend(loc="upper right", ncols=2, fontsize=8)
    axes[-1].set_xlabel("hours")
    return _svg(figure)


def _who(sessions: Sequence[Mapping[str, Any]]) -> str:
    asked: dict[str, float] = {}
    got: dict[str, float] = {}
    for session in sessions:
        asked[session["evse"]] = asked.get(session["evse"], 0.0) + (session["requested_kwh"] or 0.0)
        got[session["evse"]] = got.get(session["evse"], 0.0) + session["delivered_kwh"]
    names = list(asked)
    figure, (axis,) = _figure(max(1.8, 0.9 + 0.28 * len(names)))
    places = range(len(names))
    axis.barh(places, [asked[name] for name in names], color="#d8dee6", label="requested")
    axis.barh(places, [got[name] for name in names], height=0.5, color="#2e7d4f", label="delivered")
    axis.set_yticks(list(places), names)
    axis.invert_yaxis()
    axis.set_xlabel("kWh")
    if names:
        axis.legend(fontsize=8)
    return _svg(figure)


def _sources(course: Course) -> str:
    figure, (axis,) = _figure(2.8)
    wide = max(1, round(3600 / course.bin_s)) if len(course.bins) * course.bin_s > 4 * 3600 else 1
    groups = [course.bins[i : i + wide] for i in range(0, len(course.bins), wide)]
    hours = [i * wide * course.bin_s / 3600 for i in range(len(groups))]
    span_h = wide * course.bin_s / 3600
    base = [0.0] * len(groups)
    for name, color in (("grid", "#8a93a0"), ("pv", "#e6b422"), ("battery", "#2e7d4f")):
        power_kw = [sum(getattr(energy, f"{name}_wh") for energy in group) / 1000 / span_h for group in groups]
        axis.bar(hours, power_kw, width=span_h, bottom=base, align="edge", color=color, label=name)
        base = [a + b for a, b in zip(base, power_kw, strict=True)]
    cars_kw = [sum(energy.cars_wh for energy in group) / 1000 / span_h for group in groups]
    axis.step(hours, cars_kw, where="post", color="#1c2430", linewidth=1.2, label="into cars")
    axis.set_ylabel("kW")
    axis.set_xlabel("hours")
    axis.grid(alpha=0.25)
    axis.legend(fontsize=8, ncols=4)
    return _svg(figure)
