"""The stations' profile store, rule by rule. Times are seconds of UTC."""

import pytest

from adapters.simulated.profiles import ProfileStore, parse_profile, parse_utc_s
from adapters.simulated.station import utc_text

T0 = 1_800_000_000.0


def profile(
    number=1, *, purpose="TxDefaultProfile", level=0, limit=16.0, evse=1, start_s=0.0, duration=None, kind="Absolute",
    unit="A", periods=None, transaction=None, **more,
):  # fmt: skip
    schedule = {
        "chargingRateUnit": unit,
        "chargingSchedulePeriod": periods or [{"startPeriod": 0, "limit": limit}],
    }
    if duration is not None:
        schedule["duration"] = duration
    if kind != "Relative":
        schedule["startSchedule"] = utc_text(T0 + start_s)
    data = {
        "chargingProfileId": number,
        "stackLevel": level,
        "chargingProfilePurpose": purpose,
        "chargingProfileKind": kind,
        "chargingSchedule": schedule,
    } | more
    if transaction is not None:
        data["transactionId"] = transaction
    return parse_profile(evse, data, T0)


def store(*profiles):
    it = ProfileStore()
    for p in profiles:
        assert it.install(p, same_place_replaces=True)
    return it


def limit(it, at_s=10.0, **more):
    return it.limit_a(1, T0 + at_s, **({"transaction_id": "7", "transaction_start_utc_s": T0} | more))


def test_without_a_profile_there_is_no_limit():
    assert limit(store()) is None


def test_the_highest_stack_level_prevails_even_when_it_is_higher():
    assert limit(store(profile(1, level=0, limit=6), profile(2, level=5, limit=20))) == 20


def test_when_the_high_stack_expires_the_station_falls_back_to_the_low_one():
    it = store(profile(1, level=0, limit=6), profile(2, level=50, limit=20, duration=60))
    assert limit(it, 59.9) == 20
    assert limit(it, 60.0) == 6


def test_different_purposes_give_the_minimum_and_tx_replaces_tx_default():
    default, tx = profile(1, limit=10), profile(2, purpose="TxProfile", limit=25, transaction=7)
    maximum = profile(3, purpose="ChargePointMaxProfile", limit=18, evse=0)
    assert limit(store(default, maximum)) == 10
    assert limit(store(default, tx)) == 25
    assert limit(store(default, tx, maximum)) == 18


def test_a_tx_profile_counts_for_its_own_transaction_only():
    it = store(profile(1, limit=10), profile(2, purpose="TxProfile", limit=25, transaction=7))
    assert limit(it, transaction_id="8") == 10
    assert limit(it, transaction_start_utc_s=None) == 10


def test_a_schedule_of_the_future_does_not_apply_and_validity_is_kept():
    assert limit(store(profile(start_s=100)), 99.0) is None
    assert limit(store(profile(start_s=100)), 100.0) == 16
    it = store(profile(validFrom=utc_text(T0 + 20), validTo=utc_text(T0 + 30)))
    assert [limit(it, t) for t in (19, 20, 29, 30)] == [None, 16, 16, None]


def test_a_relative_schedule_counts_from_the_start_of_the_transaction():
    it = store(profile(kind="Relative", purpose="TxProfile", periods=[{"startPeriod": 0, "limit": 8}, {"startPeriod": 30, "limit": 12}]))  # fmt: skip
    assert limit(it, 10, transaction_start_utc_s=T0) == 8
    assert limit(it, 31, transaction_start_utc_s=T0) == 12
    assert limit(it, 31, transaction_start_utc_s=T0 + 5) == 8


def test_a_recurring_schedule_comes_again_every_day():
    it = store(profile(kind="Recurring", recurrencyKind="Daily", duration=3600, limit=9))
    assert limit(it, 86_400 * 3 + 10) == 9
    assert limit(it, 86_400 * 3 + 3601) is None


def test_watts_become_amps_over_the_phases_in_use():
    it = store(profile(unit="W", limit=6900))
    assert limit(it, phases=3) == pytest.approx(10.0)
    assert limit(it, phases=1) == pytest.approx(30.0)
    one = store(profile(unit="W", periods=[{"startPeriod": 0, "limit": 2300, "numberPhases": 1}]))
    assert limit(one, phases=3) == pytest.approx(10.0)


def test_a_station_maximum_is_shared_by_its_evses():
    it = store(profile(purpose="ChargePointMaxProfile", limit=32, evse=0))
    assert limit(it, sharing=2) == 16


def test_an_evse_goes_before_the_station_at_the_same_level():
    it = store(profile(1, evse=0, limit=20), profile(2, evse=1, limit=8))
    assert limit(it) == 8
    assert it.limit_a(2, T0 + 1) == 20


def test_what_replaces_what():
    it = store(profile(1, limit=10), profile(1, limit=12, level=3))
    assert [p.stack_level for p in it.profiles] == [3]
    assert it.install(profile(9, limit=7, level=3), same_place_replaces=True)
    assert [p.profile_id for p in it.profiles] == [9]
    assert not it.install(profile(10, limit=7, level=3), same_place_replaces=False)  # 2.0.1 K01.FR.06
    assert not it.install(profile(10, level=100), same_place_replaces=True)


def test_clearing_counts_what_it_removed():
    it = store(profile(1, level=0), profile(2, level=1), profile(3, purpose="ChargePointMaxProfile", evse=0))
    assert it.clear(lambda p: p.purpose == "TxDefault") == 2
    assert it.clear(lambda p: p.purpose == "TxDefault") == 0


def test_the_composite_schedule_shows_the_fall_to_the_lower_stack():
    it = store(profile(1, level=0, limit=6), profile(2, level=50, limit=20, start_s=-60, duration=120))
    periods = it.schedule(T0 + 10, 300, lambda t: it.limit_a(1, t), None)
    assert periods == [(0.0, 20.0), (50.0, 6.0)]


def test_date_times_with_and_without_a_zone():
    assert parse_utc_s("2027-01-15T08:00:00Z") == parse_utc_s("2027-01-15T09:00:00+01:00") == parse_utc_s("2027-01-15T08:00:00")  # fmt: skip


@pytest.mark.parametrize("broken", [{"chargingSchedule": {}}, {"stackLevel": None}, {"chargingProfilePurpose": "X"}])
def test_nonsense_is_refused(broken):
    data = {
        "chargingProfileId": 1,
        "stackLevel": 0,
        "chargingProfilePurpose": "TxProfile",
        "chargingProfileKind": "Absolute",
        "chargingSchedule": {"chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 6}]},
    }
    with pytest.raises((KeyError, ValueError, TypeError)):
        parse_profile(1, data | broken, T0)
