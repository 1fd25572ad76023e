"""Random charging profiles, as a cloud would write them in each version, and whole stacks of them."""

import random
from datetime import UTC, datetime, timedelta

T0 = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
EVSES = {1: 3, 2: 1}


def stamp(at):
    return at.isoformat().replace("+00:00", "Z")


def moment(rng):
    """Around now, at times to the half second, at times long ago."""
    offset = rng.choice([rng.randrange(-7200, 7200), rng.randrange(-864_000, 172_800), 0, 60])
    return T0 + timedelta(seconds=offset, milliseconds=rng.choice([0, 0, 0, 500]))


def period(rng, version, start_s):
    found = {"startPeriod": start_s, "limit": rng.choice([0, 6, 8, 10, 13.5, 16, 20, 32, 4000, 7400, 11_000, 0.1])}
    if rng.random() < 0.3:
        found["numberPhases"] = rng.choice([1, 2, 3])
    if version == "1.6" and rng.random() < 0.2:
        found["limit"] = round(rng.uniform(0, 40), 3)
    if version == "2.1":
        if rng.random() < 0.15:
            found["limit_L2"] = rng.choice([0, 5, 12, 2000])
        if rng.random() < 0.15:
            found["limit_L3"] = rng.choice([0, 7, 18, 3000])
        mode = rng.choice(["ChargingOnly"] * 8 + ["Idle", "CentralSetpoint", "ExternalLimits", "LocalFrequency"])
        if mode != "ChargingOnly" or rng.random() < 0.1:
            found["operationMode"] = mode
        if mode == "CentralSetpoint":
            found["setpoint"] = rng.choice([-3000, -5, 0, 9, 5000])
            if rng.random() < 0.4:
                del found["limit"]
                found.pop("limit_L2", None)
                found.pop("limit_L3", None)
        if mode == "ExternalLimits":
            for key in ("limit", "limit_L2", "limit_L3"):
                found.pop(key, None)
        if rng.random() < 0.03:
            found["evseSleep"] = True
    return found


def profile(rng, version, number, purpose, transaction):
    """One that a station would take."""
    kinds = ["Absolute", "Recurring", "Relative"]
    if version == "2.1":
        kinds.append("Dynamic")
    if "Max" in purpose and version != "1.6":
        kinds.remove("Relative")
    kind = rng.choice(kinds)
    starts = [0, *sorted(rng.sample(range(1, 7200), rng.randrange(4)) if rng.random() < 0.8 else [43200])]
    if kind == "Dynamic":
        starts = [0]
    schedule = {
        "chargingRateUnit": rng.choice("AAW"),
        "chargingSchedulePeriod": [period(rng, version, s) for s in starts],
    }
    if kind in {"Absolute", "Recurring"}:
        schedule["startSchedule"] = stamp(moment(rng))
        if version == "1.6" and kind == "Absolute" and rng.random() < 0.2:
            del schedule["startSchedule"]
    if rng.random() < 0.5:
        schedule["duration"] = rng.choice([60, 600, 3600, 7200, 86_400, 100_000])
    found = {
        "chargingProfileId" if version == "1.6" else "id": number,
        "stackLevel": rng.randrange(4),
        "chargingProfilePurpose": purpose,
        "chargingProfileKind": kind,
        "chargingSchedule": schedule if version == "1.6" else [{"id": 1, **schedule}],
    }
    if kind == "Recurring":
        found["recurrencyKind"] = rng.choice(["Daily", "Weekly"])
    if rng.random() < 0.25:
        found["validFrom"] = stamp(moment(rng))
    if rng.random() < 0.25:
        found["validTo"] = stamp(moment(rng))
    if purpose == "TxProfile" and (version != "1.6" or rng.random() < 0.5):
        found["transactionId"] = transaction
    if version == "2.1" and rng.random() < 0.1:
        found["maxOfflineDuration"] = rng.choice([0, 60, 3600])
    return found


PURPOSES = {
    "1.6": ["ChargePointMaxProfile", "TxDefaultProfile", "TxProfile"],
    "2.0.1": ["ChargingStationMaxProfile", "TxDefaultProfile", "TxProfile"],
    "2.1": ["ChargingStationMaxProfile", "TxDefaultProfile", "TxProfile", "PriorityCharging", "LocalGeneration"],
}


def stack(rng, version, transaction):
    """(EVSE, profile) of each command, in order; some of them will be refused or replaced."""
    found = []
    for number in range(1, rng.randrange(2, 13)):
        purpose = rng.choice(PURPOSES[version])
        evse = 0 if "Max" in purpose else 1 if purpose == "TxProfile" else rng.choice([0, 1, 1, 2])
        found.append(
            (evse, profile(rng, version, rng.randrange(1, 7) if rng.random() < 0.2 else number, purpose, transaction))
        )
    return found


def seeded(version, number):
    return random.Random(f"{version}/{number}")
