"""The profile store by single rules: what is refused, replaced, cleared, and what leads when."""

from datetime import UTC, datetime, timedelta

import pytest

from cem.csms.composite import whole_steps
from cem.csms.profile_reading import RULES_16, RULES_21, RULES_201, read_profile
from cem.csms.profile_store import ProfileStore
from cem.csms.profiles import SECOND_US, Clear, Profile, Refusal, Running, to_us

T0 = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
RULES = {"1.6": RULES_16, "2.0.1": RULES_201, "2.1": RULES_21}
PURPOSE = {"max": ("ChargePointMaxProfile", "ChargingStationMaxProfile"), "tx": ("TxProfile",) * 2}


def at(seconds):
    return T0 + timedelta(seconds=seconds)


def stamp(seconds):
    return at(seconds).isoformat().replace("+00:00", "Z")


class Store(ProfileStore):
    """With a clock at T0 and words for tests."""

    def __init__(self, version="2.1"):
        self.version = version
        self.running = {}
        super().__init__({1: 3, 2: 1}, 230.0, self.running.get)

    def begin(self, evse=1, tx="7", seconds=0):
        self.running[evse] = Running(tx, to_us(at(seconds)))

    def raw(self, limit=10, *, number=1, purpose="TxDefaultProfile", stack=0, kind="Absolute", **more):
        purpose = PURPOSE.get(purpose, (purpose,) * 2)[self.version != "1.6"]
        schedule = {"chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": limit}]}
        if kind in {"Absolute", "Recurring"}:
            schedule["startSchedule"] = stamp(0)
        names = {"unit": "chargingRateUnit", "periods": "chargingSchedulePeriod", "start": "startSchedule"}
        for key in [k for k in more if k in {*names, "duration", "useLocalTime", "randomizedDelay"}]:
            schedule[names.get(key, key)] = more.pop(key)
        return {
            RULES[self.version].id_key: number, "stackLevel": stack, "chargingProfilePurpose": purpose,
            "chargingProfileKind": kind, "chargingSchedule": schedule if self.version == "1.6" else [{"id": 1, **schedule}],
        } | more  # fmt: skip

    def put(self, *args, evse=1, **more):
        rules = RULES[self.version]
        read = read_profile(self.raw(*args, **more), evse, rules, T0)
        refusal = read if isinstance(read, Refusal) else self.set(read, rules)
        return None if refusal is None else refusal.code

    def a(self, seconds=0, evse=1, sharing=1):
        found = self.composite(self.place(evse, sharing), to_us(at(seconds)), SECOND_US, "A")[0].limit
        return found[0] if found is not None and len(found) == 1 else found


@pytest.fixture(params=RULES)
def store(request):
    return Store(request.param)


def test_no_profile_is_no_limit(store):
    assert store.a() is None


def test_the_highest_stack_level_leads_even_when_it_is_higher(store):
    assert store.put(10, number=1, stack=0) is None
    assert store.put(20, number=2, stack=1, duration=60) is None
    assert [store.a(s) for s in (-1, 0, 59, 60)] == [None, 20, 20, 10]


def test_purposes_give_the_minimum_and_a_maximum_is_shared(store):
    store.put(10, number=1)
    store.put(8, number=2, evse=0, purpose="max")
    assert store.a() == 8
    assert store.a(evse=2) == 8
    assert store.a(sharing=2) == 4


def test_a_tx_profile_replaces_the_default_and_goes_with_its_transaction(store):
    store.put(10, number=1)
    assert store.put(20, number=2, purpose="tx", transactionId="7") == "TxNotFound"
    store.begin()
    assert store.put(20, number=2, purpose="tx", transactionId="8") == "UnknownTxId"
    assert store.put(20, number=2, purpose="tx", transactionId="7") is None
    assert store.a() == 20
    assert store.transaction_ended(1)
    assert store.a() == 10
    assert not store.transaction_ended(1)


def test_a_tx_profile_names_its_transaction_since_2():
    for version, said in (("1.6", None), ("2.0.1", "MissingParam")):
        store = Store(version)
        store.begin()
        assert store.put(purpose="tx") == said


@pytest.mark.parametrize(
    ("more", "code", "also_16"),
    [
        ({"evse": 7}, "UnknownEvse", True),
        ({"evse": 1, "purpose": "max"}, "InvalidProfile", True),
        ({"evse": 0, "purpose": "tx", "transactionId": "7"}, "InvalidProfile", True),
        ({"stack": 100}, "InvalidStackLevel", True),
        ({"stack": -1}, "InvalidStackLevel", True),
        ({"purpose": "NoSuchProfile"}, "InvalidProfile", True),
        ({"kind": "Sometimes"}, "InvalidProfile", True),
        ({"unit": "kW"}, "UnsupportedRateUnit", True),
        ({"periods": []}, "InvalidSchedule", True),
        ({"periods": [{"startPeriod": i, "limit": 6} for i in range(1025)]}, "TooManyElements", True),
        ({"periods": [{"startPeriod": 0}]}, "InvalidSchedule", True),
        ({"periods": [{"startPeriod": 0, "limit": "much"}]}, "InvalidSchedule", True),
        ({"periods": [{"startPeriod": 0, "limit": 6}] * 2}, "InvalidSchedule", True),
        ({"kind": "Recurring"}, "InvalidProfile", True),
        ({"validFrom": stamp(5), "validTo": stamp(5)}, "InvalidProfile", True),
        ({"validFrom": "soon"}, "InvalidProfile", True),
        ({"duration": 0}, "InvalidSchedule", True),
        ({"periods": [{"startPeriod": 0, "limit": 6, "phaseToUse": 2}]}, "InvalidSchedule", True),
        ({"periods": [{"startPeriod": 5, "limit": 6}]}, "InvalidSchedule", False),
        ({"kind": "Relative", "start": stamp(0)}, "InvalidSchedule", False),
        ({"evse": 0, "kind": "Relative", "purpose": "max"}, "InvalidProfile", False),
    ],
)
def test_what_a_station_refuses(store, more, code, also_16):
    refused = also_16 or store.version != "1.6"
    assert store.put(**more) == (code if refused else None)
    assert len(store) == (0 if refused else 1)


def test_negative_limits_are_refused_before_2_1_and_charge_nothing_in_it(store):
    assert store.put(-5) == (None if store.version == "2.1" else "InvalidSchedule")
    assert store.a() == (0 if store.version == "2.1" else None)


def test_external_constraints_are_not_the_clouds(store):
    said = store.put(5, evse=0, purpose="ChargingStationExternalConstraints")
    assert said == "InvalidProfile"


def test_what_replaces_what():
    store = Store("1.6")
    store.put(10, number=1)
    store.put(12, number=2)
    assert [p.profile_id for p in store.find()] == [2]  # section 5.16.4: the same level and purpose
    store.put(14, number=2, stack=3)
    assert [(p.profile_id, p.stack_level) for p in store.find()] == [(2, 3)]  # or the same id
    store.put(9, number=3, evse=0, stack=3)
    assert (store.a(), store.a(evse=2)) == (14, 9)  # at one level the EVSE's own leads
    for version in ("2.0.1", "2.1"):
        store = Store(version)
        store.put(10, number=1)
        assert store.put(12, number=2) == "DuplicateProfile"  # K01.FR.06
        assert store.put(12, number=2, evse=0) == "DuplicateProfile"  # K01.FR.53
        assert store.put(12, number=2, validTo=stamp(-500)) == "DuplicateProfile"
        assert store.put(12, number=1, validFrom=stamp(50)) is None  # K01.FR.05
        assert store.put(14, number=2, validTo=stamp(50)) is None
        assert (store.a(49), store.a(50)) == (14, 12)


def test_limits_of_1_6_are_tenths_rounded_down():
    store = Store("1.6")
    store.put(10.19)
    assert store.a() == 10.1


def test_watts_become_amps_at_nominal_voltage_and_the_phases_told_and_wired(store):
    store.put(
        unit="W", periods=[{"startPeriod": 0, "limit": 6900}, {"startPeriod": 9, "limit": 2300, "numberPhases": 1}]
    )
    assert store.a(0) == pytest.approx(10)
    assert store.a(9) == pytest.approx(10)
    store.put(2300, unit="W", evse=2, number=5)
    assert store.a(evse=2) == pytest.approx(10)  # a single-phase EVSE


def test_validity(store):
    store.put(10, validFrom=stamp(10), validTo=stamp(20))
    assert [store.a(s) for s in (9, 10, 19, 20)] == [None, 10, 10, None]


def test_relative_counts_from_the_start_of_the_transaction_and_stands_at_its_beginning_before(store):
    periods = [{"startPeriod": 0, "limit": 16}, {"startPeriod": 60, "limit": 8}]
    store.put(kind="Relative", periods=periods)
    assert (store.a(), store.a(5000)) == (16, 16)
    store.begin(seconds=100)
    assert [store.a(s) for s in (99, 159, 160)] == [None, 16, 8]


def test_recurring_daily_and_weekly(store):
    night = [{"startPeriod": 0, "limit": 6}, {"startPeriod": 3600, "limit": 16}]
    store.put(kind="Recurring", recurrencyKind="Daily", periods=night, duration=7200)
    for day in (0, 1, 30):
        assert [store.a(day * 86400 + s) for s in (10, 3700, 7200)] == [6, 16, None]
    store.put(kind="Recurring", recurrencyKind="Weekly", periods=night, duration=7200)
    assert [store.a(s) for s in (86400, 7 * 86400)] == [None, 6]


def test_limits_per_phase():
    store = Store("2.1")
    store.put(periods=[{"startPeriod": 0, "limit": 10, "limit_L2": 8}])
    store.put(9, number=2, evse=0, purpose="max")
    assert store.a() == (9, 8, 9)
    assert store.limit_a(store.place(1), T0) == 8
    assert store.limit_a(store.place(2), T0) == 9  # only the station's is set there
    store = Store("2.0.1")
    store.put(periods=[{"startPeriod": 0, "limit": 10, "limit_L2": 8}])
    assert store.a() == 10


def test_local_generation_is_added_to_the_lowest():
    store = Store("2.1")
    store.put(5, number=9, evse=0, purpose="LocalGeneration")
    assert store.a() is None
    store.put(10)
    store.put(8, number=2, evse=0, purpose="max")
    assert store.a() == 13


def test_priority_charging_leads_while_it_is_on():
    store = Store("2.1")
    store.put(6)
    assert not store.prioritize(1, on=True)
    store.put(32, number=2, purpose="PriorityCharging")
    assert not store.prioritize(1, on=True)  # nobody charges
    store.begin()
    assert store.a() == 6
    assert store.prioritize(1, on=True)
    assert store.a() == 32
    store.prioritize(1, on=False)
    assert store.a() == 6
    store.prioritize(1, on=True)
    store.running.clear()
    store.transaction_ended(1)
    store.begin()
    assert store.a() == 6


def test_setpoints_and_modes_are_carried_and_bound_charging():
    store = Store("2.1")
    period = {"startPeriod": 0, "operationMode": "CentralSetpoint", "setpoint": -7, "dischargeLimit": -16, "limit": 16}
    store.put(periods=[period])
    (stretch,) = store.composite(store.place(1), to_us(T0), SECOND_US, "A")
    assert stretch.limit == (0,)
    assert stretch.leading.setpoint == (-7,)
    assert stretch.leading.discharge == (-16,)
    assert store.put(periods=[{"startPeriod": 0, "operationMode": "Idle"}]) is None
    assert store.a() == 0
    store.put(periods=[{"startPeriod": 0, "operationMode": "ExternalLimits"}])
    assert store.a() is None
    assert store.put(periods=[{"startPeriod": 0, "operationMode": "Magic"}]) == "InvalidSchedule"


def test_a_dynamic_profile_takes_updates_and_reports_them():
    store = Store("2.1")
    assert store.put(16, kind="Dynamic", periods=[{"startPeriod": s, "limit": 6} for s in (0, 9)]) == "InvalidSchedule"
    store.put(16, kind="Dynamic", number=4)
    assert store.a() == 16
    assert store.update(4, {"limit": 9, "setpoint": 3}, at(5)) is None
    assert store.a(5) == 9
    (raw,) = [p.raw for p in store.find()]
    assert raw["chargingSchedule"][0]["chargingSchedulePeriod"] == [{"startPeriod": 0, "limit": 9, "setpoint": 3}]
    assert raw["dynUpdateTime"] == "2026-11-22T10:00:05.000Z"
    assert store.update(5, {"limit": 9}, T0) is not None
    assert store.update(4, {"limit": "x"}, T0) is not None
    assert store.a(5) == 9


def test_a_profile_may_end_while_the_cloud_is_away():
    store = Store("2.1")
    store.put(16)
    store.put(32, number=2, stack=1, maxOfflineDuration=60)
    store.put(24, number=3, stack=2, maxOfflineDuration=10, invalidAfterOfflineDuration=True)
    store.offline(T0)
    assert [store.a(s) for s in (9, 10, 59, 60)] == [24, 32, 32, 16]
    store.online(at(5))
    assert store.a(100) == 24
    store.offline(at(200))
    assert store.online(at(300))
    assert store.a(400) == 32


def test_the_car_chooses_among_three_schedules():
    store = Store("2.1")
    store.begin()
    raw = store.raw(10, purpose="tx", transactionId="7")
    raw["chargingSchedule"] = [{**raw["chargingSchedule"][0], "id": i} for i in (4, 5, 6)]
    raw["chargingSchedule"][1] = {
        **raw["chargingSchedule"][1],
        "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 12}],
    }
    assert store.set(read_profile(raw, 1, RULES_21, T0), RULES_21) is None
    assert store.a() == 10
    store.choose(1, 5)
    assert store.a() == 12
    store.choose(1, 99)
    assert store.a() == 12


def test_what_is_not_served_is_refused_with_its_reason():
    store = Store("2.1")
    assert store.put(useLocalTime=True) == "UnsupportedParam"
    assert store.put(randomizedDelay=60) == "UnsupportedParam"


def test_unknown_members_are_ignored_and_kept(store):
    raw = store.raw() | {"customData": {"vendorId": "x", "y": 1.50}}
    read = read_profile(raw, 1, RULES[store.version], T0)
    assert isinstance(read, Profile)
    assert read.raw is raw


@pytest.mark.parametrize(
    ("clear", "left"),
    [
        (Clear(), []),
        (Clear(profile_id=2), [1, 3]),
        (Clear(profile_id=2, purpose="max"), [1, 3]),
        (Clear(purpose="tx_default"), [3]),
        (Clear(purpose="tx_default", stack_level=1), [1, 3]),
        (Clear(evse=0), [1, 2]),
        (Clear(evse=0, purpose="tx_default"), [1, 2, 3]),
    ],
)
def test_clear(store, clear, left):
    store.put(10, number=1, stack=0)
    store.put(12, number=2, stack=1)
    store.put(14, number=3, evse=0, purpose="max")
    assert store.clear(clear) is (len(left) < 3)
    assert sorted(p.profile_id for p in store.find()) == left


def test_the_store_is_bounded(store):
    taken = [store.put(number=n, stack=n % 100, evse=1 + n // 100 % 2) for n in range(200)]
    assert taken.count(None) == 200
    store.clear(Clear())
    many = [{"startPeriod": s, "limit": 6} for s in range(1000)]
    taken = [store.put(number=n, stack=n, periods=many) for n in range(12)]
    assert taken == [None] * 10 + ["OutOfStorage"] * 2


def test_a_step_down_is_given_out_in_time_and_a_rise_at_its_time(store):
    store.put(periods=[{"startPeriod": s, "limit": a} for s, a in ((0, 20), (60, 8), (120, 30))])
    seen = [store.limit_a(store.place(1), at(s)) for s in (57.5, 58, 60, 119.5, 120)]
    assert seen == [20, 8, 8, 8, 30]


def test_what_is_laid_out_ahead_follows_every_change(store):
    store.put(20)
    assert store.limit_a(store.place(1), T0) == 20
    store.put(12)
    assert store.limit_a(store.place(1), T0) == 12
    assert store.limit_a(store.place(1, 2), T0) == 12
    store.clear(Clear())
    assert store.limit_a(store.place(1), T0) is None
    store.put(kind="Relative", periods=[{"startPeriod": 0, "limit": 16}, {"startPeriod": 60, "limit": 8}])
    assert store.limit_a(store.place(1), at(70)) == 16
    store.begin()
    assert store.limit_a(store.place(1), at(70)) == 8
    assert store.limit_a(store.place(1), at(3 * 86400)) == 8


def test_whole_seconds_never_tell_more_than_holds(store):
    store.put(start=stamp(0.4), periods=[{"startPeriod": s, "limit": a} for s, a in ((0, 20), (60, 8), (120, 30))])
    start = to_us(T0)
    steps = whole_steps(store.composite(store.place(1), start, 300 * SECOND_US, "A"), start, (24.0,), "A")
    assert [(s.start_s, s.limit[0]) for s in steps] == [(0, 20), (60, 8), (121, 24.0)]
