"""What the drivers asked for and got, session by session."""

from dataclasses import dataclass, field

STARTED_A = 1.0
"""A car that draws more than this has begun."""

WHOLE = 0.99
"""A session counts as fully served from this part of what was asked for: cars end a little early."""


@dataclass(frozen=True, slots=True)
class Car:
    """A car as the plant is told of it.

    Attributes:
        phases: That its charger uses.
        max_a: Most current per phase.
        settle_s: Until 95 % of a step is followed.
        draw: Part of the allowed current that it really takes.
        need_wh: Until it is full.
    """

    phases: int = 3
    max_a: float = 32.0
    settle_s: float = 3.0
    draw: float = 1.0
    need_wh: float = 1e9


@dataclass(slots=True)
class Session:
    """One visit of a car.

    Attributes:
        evse_id: Where.
        begin_s: Plugged in, in plant time.
        requested_wh: Needed until full; ``None`` where the scenario does not say.
        end_s: Unplugged; ``None`` while it is there.
        delivered_wh: So far.
        first_current_s: From the plug to the first current; ``None`` before it.
        pauses: Times it was set to 0 while it ran.
        reversals: Times its setpoint turned from rising to falling or back.
    """

    evse_id: str
    begin_s: float
    requested_wh: float | None
    end_s: float | None = None
    delivered_wh: float = 0.0
    first_current_s: float | None = None
    pauses: int = 0
    reversals: int = 0

    @property
    def ratio(self) -> float | None:
        """Delivered over requested; ``None`` where nothing was asked for."""
        return None if not self.requested_wh else min(1.0, self.delivered_wh / self.requested_wh)

    @property
    def whole(self) -> bool:
        """It got what it asked for."""
        return self.ratio is not None and self.ratio >= WHOLE


@dataclass(slots=True)
class Tally:
    """What the drivers got.

    Attributes:
        served_ah: Per EVSE, over the phases.
        sessions: In the order of their beginning.
        pauses: Times a running EVSE was set to 0 in its transaction.
        reversals: Times a setpoint turned from rising to falling or back.
    """

    served_ah: dict[str, float]
    sessions: list[Session] = field(default_factory=list)
    pauses: int = 0
    reversals: int = 0
    _open: dict[str, Session] = field(default_factory=dict)
    _direction: dict[str, int] = field(default_factory=dict)

    def begin(self, evse_id: str, now_s: float, requested_wh: float | None) -> None:
        """A car is plugged in."""
        self._open[evse_id] = session = Session(evse_id, now_s, requested_wh)
        self.sessions.append(session)
        self._direction.pop(evse_id, None)

    def end(self, evse_id: str, now_s: float, charged_wh: float) -> None:
        """It leaves."""
        session = self._open.pop(evse_id, None)
        if session is not None:
            session.end_s, session.delivered_wh = now_s, charged_wh

    def setpoint(self, evse_id: str, before_a: float, now_a: float) -> None:
        """A changed setpoint of an EVSE with a transaction."""
        turn = 1 if now_a > before_a else -1
        pause, reversal = now_a == 0.0, self._direction.get(evse_id, turn) != turn
        self._direction[evse_id] = turn
        self.pauses += pause
        self.reversals += reversal
        session = self._open.get(evse_id)
        if session is not None:
            session.pauses += pause
            session.reversals += reversal

    def draws(self, evse_id: str, amps: float, dt_s: float, now_s: float) -> None:
        """One step of the plant at one EVSE, A over the phases."""
        self.served_ah[evse_id] += amps * dt_s / 3600
        session = self._open.get(evse_id)
        if session is not None and session.first_current_s is None and amps > STARTED_A:
            session.first_current_s = now_s - session.begin_s
