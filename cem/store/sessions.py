"""One charging session as a record: the steps a station reports, folded into one row. Pure."""

import math
from dataclasses import dataclass, replace
from datetime import datetime

from cem.ports import SessionUpdate

RISES_TO_TRUST = 2
"""FAULTS M8: a register that jumped backwards is believed again after this many rising reads."""


@dataclass(frozen=True, slots=True)
class Session:
    """One charging session.

    Attributes:
        session_id: Ours, unique for ever.
        station_id: Where.
        evse_id: Where.
        transaction_id: The id the station uses.
        open: No stop has been told yet.
        updated_utc: The station's time of the latest step.
        started_utc: ``None`` where the start was never told.
        stopped_utc: ``None`` while open.
        meter_start_wh: First register that counts for this session.
        meter_last_wh: Last register that was believed.
        energy_wh: Delivered so far, never negative; ``None`` where no register was told.
        token_hash: Who, hashed.
        reason: Why it ended.
        doubt_first_wh: First register after a jump backwards; ``None`` while the register is trusted.
        doubt_last_wh: Latest register since that jump.
        doubt_rises: Rising reads since that jump.
    """

    session_id: str
    station_id: str
    evse_id: str
    transaction_id: str
    open: bool
    updated_utc: datetime
    started_utc: datetime | None = None
    stopped_utc: datetime | None = None
    meter_start_wh: float | None = None
    meter_last_wh: float | None = None
    energy_wh: float | None = None
    token_hash: str | None = None
    reason: str | None = None
    doubt_first_wh: float | None = None
    doubt_last_wh: float | None = None
    doubt_rises: int = 0


def fold(session: Session | None, update: SessionUpdate) -> Session:
    """The session after one more step; the same step told twice changes nothing.

    Args:
        session: The record so far; ``None`` for the first step, whatever its kind.
        update: What the station told, with its own time.

    Returns:
        The new record.
    """
    late = session is not None and update.at_utc < session.updated_utc
    if session is None:
        session = Session(
            session_id=update.session_id,
            station_id=update.station_id,
            evse_id=update.evse_id,
            transaction_id=update.transaction_id,
            open=True,
            updated_utc=update.at_utc,
        )
    session = _with_register(session, update.meter_wh, late=late)
    session = replace(
        session,
        updated_utc=max(session.updated_utc, update.at_utc),
        token_hash=session.token_hash or update.token_hash,
    )
    if update.kind == "start" and session.started_utc is None:
        return replace(session, started_utc=update.at_utc)
    if update.kind == "resume":
        return replace(session, open=True, stopped_utc=None, reason=None)
    if update.kind == "stop" and session.open:
        return replace(session, open=False, stopped_utc=update.at_utc, reason=update.reason)
    return session


def _with_register(session: Session, meter_wh: float | None, *, late: bool) -> Session:
    """Count one reading of the energy register; a jump backwards never makes negative energy (FAULTS M8)."""
    if meter_wh is None or not math.isfinite(meter_wh):
        return session
    if session.meter_last_wh is None or session.energy_wh is None:
        return replace(session, meter_start_wh=meter_wh, meter_last_wh=meter_wh, energy_wh=0.0)
    if meter_wh >= session.meter_last_wh:
        return replace(
            session,
            meter_last_wh=meter_wh,
            energy_wh=session.energy_wh + meter_wh - session.meter_last_wh,
            doubt_first_wh=None,
            doubt_last_wh=None,
            doubt_rises=0,
        )
    if late:  # an old reading delivered late is lower by nature, not a jump
        return session
    if session.doubt_first_wh is None or session.doubt_last_wh is None or meter_wh < session.doubt_last_wh:
        return replace(session, doubt_first_wh=meter_wh, doubt_last_wh=meter_wh, doubt_rises=0)
    rises = session.doubt_rises + (1 if meter_wh > session.doubt_last_wh else 0)
    if rises < RISES_TO_TRUST:
        return replace(session, doubt_last_wh=meter_wh, doubt_rises=rises)
    # The register started anew: what it counted since then is energy, what it lost before is unknown.
    return replace(
        session,
        meter_last_wh=meter_wh,
        energy_wh=session.energy_wh + meter_wh - session.doubt_first_wh,
        doubt_first_wh=None,
        doubt_last_wh=None,
        doubt_rises=0,
    )
