"""What a DSO must leave to the controllable devices of a site under an energy manager (§ 14a EnWG).

The figures are those that several independent public implementations agree on; the regulator's own text was not at hand.
"""

from collections.abc import Sequence

DEVICE_W = 4200.0
LARGE_GROUP_W = 11_000.0
LARGE_SHARE = 0.4
_SIMULTANEITY = {2: 0.80, 3: 0.75, 4: 0.70, 5: 0.65, 6: 0.60, 7: 0.55, 8: 0.50}
_MANY = 0.45


def simultaneity(devices: int) -> float:
    """Share of each further device's minimum that is counted, for so many devices."""
    return _SIMULTANEITY.get(devices, _MANY)


def minimum_w(devices: int, heat_pumps_w: Sequence[float] = (), cooling_w: Sequence[float] = ()) -> float:
    """The least that a limit may leave.

    Args:
        devices: Controllable devices in all (charging points, batteries, heat pumps, cooling).
        heat_pumps_w: Rated power of the heat pumps among them.
        cooling_w: Rated power of the cooling devices among them.
    """
    if devices <= 0:
        return 0.0
    groups_w = [sum(group) for group in (heat_pumps_w, cooling_w)]
    base_w = max([DEVICE_W, *(LARGE_SHARE * group_w for group_w in groups_w if group_w > LARGE_GROUP_W)])
    if devices == 1:
        return base_w
    return base_w + (devices - 1) * simultaneity(devices) * DEVICE_W


def too_low(source: str, limit_w: float, least_w: float | None) -> str | None:
    """What to tell of a limit on controllable load below that minimum; ``None`` where nothing is to be told."""
    if least_w is None or limit_w >= least_w:
        return None
    return (
        f"{source}: limits controllable load to {limit_w / 1000:.2f} kW, below the {least_w / 1000:.2f} kW that "
        "§ 14a EnWG leaves to this site; it is obeyed: ask the grid operator"
    )
