"""What the standard allows at one instant, by looking at everything: written apart from the product, slow and plain.

Profiles are read as dictionaries straight from the messages. Nothing is laid out over time and nothing is kept. Sources: OCPP
1.6 section 3.13; OCPP 2.0.1 and 2.1 Part 2 section K, 3.2 to 3.6 and the K01 requirements.
"""

from datetime import datetime
from fractions import Fraction

CYCLES = {"Daily": 86_400, "Weekly": 604_800}


def seconds(text):
    """An OCPP time as exact seconds since 1970."""
    at = datetime.fromisoformat(text)
    whole = at.replace(microsecond=0)
    return Fraction(int(whole.timestamp())) + Fraction(at.microsecond, 1_000_000)


class World:
    """Everything that bears on one EVSE: its wiring, its transaction, what is set at the station."""

    def __init__(self, version, evse, wired=3, volts=230, tx=None, tx_start=None, sharing=1, priority=(), gone=None):
        self.version, self.evse, self.wired, self.volts = version, evse, wired, volts
        self.tx, self.tx_start, self.sharing = tx, tx_start, sharing
        self.priority, self.gone = priority, gone
        self.installed = []  # (evse, profile, received)

    def limit(self, at, unit):
        """The composite limit: three numbers (A per phase, or W per phase), or one (W in all); ``None``: no limit."""
        speaking = {}
        for evse, profile, received in self.installed:
            if evse not in (0, self.evse):
                continue
            period = self.period(profile, received, at)
            if period is None:
                continue
            purpose = profile["chargingProfilePurpose"]
            rank = (profile["stackLevel"], evse == self.evse and evse != 0)
            if purpose not in speaking or rank > speaking[purpose][0]:
                speaking[purpose] = (rank, evse, profile, period)
        for winner, losers in (
            ("PriorityCharging", ("TxProfile", "TxDefaultProfile")),
            ("TxProfile", ("TxDefaultProfile",)),
        ):
            if winner in speaking:
                for loser in losers:
                    speaking.pop(loser, None)
        extra = speaking.pop("LocalGeneration", None)
        result = None
        for _, evse, profile, period in speaking.values():
            bound = self.bound(evse, profile, period, unit)
            if bound is not None:
                result = bound if result is None else tightest(result, bound, unit)
        if result is not None and extra is not None:
            more = self.bound(extra[1], extra[2], extra[3], unit)
            if more is not None:
                result = added(result, more, unit)
        return result

    def schedule(self, profile):
        listed = profile["chargingSchedule"]
        return listed[0] if isinstance(listed, list) else listed

    def period(self, profile, received, at):
        """The period of a profile that holds at an instant, if any."""
        purpose, kind = profile["chargingProfilePurpose"], profile["chargingProfileKind"]
        session = purpose in ("TxProfile", "TxDefaultProfile", "PriorityCharging")
        if purpose in ("TxProfile", "PriorityCharging") and self.tx is None:
            return None
        if purpose == "TxProfile" and str(profile.get("transactionId", self.tx)) != str(self.tx):
            return None
        if purpose == "PriorityCharging" and self.tx not in self.priority:
            return None
        if "validFrom" in profile and at < seconds(profile["validFrom"]):
            return None
        if "validTo" in profile and at >= seconds(profile["validTo"]):
            return None
        if (
            self.gone is not None
            and "maxOfflineDuration" in profile
            and at >= self.gone + profile["maxOfflineDuration"]
        ):
            return None
        schedule = self.schedule(profile)
        periods = schedule["chargingSchedulePeriod"]
        if kind == "Relative" and session and self.tx is None:
            return next((p for p in periods if p["startPeriod"] == 0), None)
        if kind == "Relative":
            begin = self.tx_start if session else received
        elif kind == "Dynamic":
            begin = received  # or its last update (K28.FR.13)
        else:
            begin = seconds(schedule["startSchedule"]) if "startSchedule" in schedule else received
        into = at - begin
        if into < 0:
            return None
        if kind == "Recurring":
            into %= CYCLES[profile["recurrencyKind"]]
        if "duration" in schedule and into >= schedule["duration"]:
            return None
        return max((p for p in periods if p["startPeriod"] <= into), key=lambda p: p["startPeriod"], default=None)

    def bound(self, evse, profile, period, unit):
        """What a period lets a car take at most, in the unit asked for."""
        if period.get("operationMode") == "Idle" or period.get("evseSleep"):
            return [0]
        limit = three(period, "limit")
        if limit is not None and self.version == "1.6":
            limit = [Fraction(int(Fraction(str(x)) * 10), 10) for x in limit]
        limit = None if limit is None else [max(0, x) for x in limit]
        if period.get("operationMode") == "CentralSetpoint" and period.get("setpoint") is not None:
            target = [max(0, x) for x in three(period, "setpoint")]
            if limit is None:
                limit = target
            elif len(limit) == len(target):
                limit = [min(a, b) for a, b in zip(limit, target, strict=True)]
        if limit is None:
            return None
        given = self.schedule(profile)["chargingRateUnit"]
        phases = 1 if len(limit) == 3 else min(period.get("numberPhases", 3), self.wired)
        if given == "W" and unit == "A":
            limit = [Fraction(x) / (self.volts * phases) for x in limit]
        elif given == "A" and unit == "W":
            limit = [Fraction(x) * self.volts * phases for x in limit]
        stationwide = profile["chargingProfilePurpose"] not in ("TxProfile", "TxDefaultProfile", "PriorityCharging")
        return [Fraction(x) / self.sharing for x in limit] if stationwide and evse == 0 else limit


def three(period, name):
    """One number or three, as 2.1 writes limits per phase."""
    if name not in period:
        return None
    if f"{name}_L2" not in period and f"{name}_L3" not in period:
        return [period[name]]
    return [period[name], period.get(f"{name}_L2", period[name]), period.get(f"{name}_L3", period[name])]


def tightest(a, b, unit):
    """Both hold."""
    if len(a) == len(b):
        return [min(x, y) for x, y in zip(a, b, strict=True)]
    one, many = (a, b) if len(a) == 1 else (b, a)
    if unit == "A":
        return [min(one[0], x) for x in many]
    return many if sum(many) <= one[0] else [Fraction(x) * Fraction(one[0]) / Fraction(sum(many)) for x in many]


def added(a, b, unit):
    """One on top of the other."""
    if len(a) == len(b):
        return [x + y for x, y in zip(a, b, strict=True)]
    one, many = (a, b) if len(a) == 1 else (b, a)
    return [x + (one[0] if unit == "A" else Fraction(one[0]) / 3) for x in many]
