"""An EVSE as control sees it: what its station told, and what it may draw by what it was sent."""

from cem.core.state import EvseState
from cem.csms.keeper import Keeper
from cem.csms.picture import Picture


def evse_states(
    picture: Picture, keeper: Keeper, now_s: float, report_interval_s: float, *, online: bool
) -> list[EvseState]:
    """Those of a station at this moment."""
    return [_state(picture, keeper, number, now_s, report_interval_s, online=online) for number in picture.evses]


def _state(
    picture: Picture, keeper: Keeper, number: int, now_s: float, report_interval_s: float, *, online: bool
) -> EvseState:
    live, hold = picture.evses[number], keeper.holds[number]
    transaction = picture.transactions.at(number)
    charging = transaction is not None
    return EvseState(
        evse_id=live.evse.evse_id,
        online=online,
        connected=True if charging else live.connected,
        charging=charging,
        in_force_a=keeper.in_force_a(number, now_s, charging=charging, online=online),
        confirmed_a=hold.confirmed_a(now_s),
        confirmed_s=hold.confirmed_s,
        measured_a=live.current_a,
        measured_s=live.measured_s,
        report_interval_s=report_interval_s,
        cloud_limit_a=hold.cloud_a,
        since_s=transaction.started_s if transaction is not None else None,
        status=live.status,
        needed_wh=picture.needed_wh(number),
        departure_s=live.departure_s,
        car_a=live.needs.most_a(live.evse, hold.car_phases) if live.needs is not None else None,
        fault=keeper.fault(number),
        shared=number == 0,
        by_power=hold.way.unit == "W",
        phases_in_force=hold.phases_in_force(now_s) if online and charging else None,
    )
