"""Dynamic profiles as the fast loop (OCPP 2.1 K28): new values alone, where the station shows that such a profile ends."""

from fractions import Fraction

import pytest

from tests.csms.rig import Rig
from tests.csms.two_masters import Station

LIFE_S, REFRESH_S = 120, 60


class Site:
    """A controller and a station that obeys to the letter."""

    def __init__(self):
        self.rig = Rig("2.1", options={"profile_duration_s": LIFE_S, "profile_refresh_s": REFRESH_S})
        self.station = Station("2.1", end_to_end=False, dynamic=True)
        self.connect()

    @property
    def now(self):
        return Fraction(str(self.rig.now.utc.timestamp()))

    def connect(self):
        self.rig.open()
        self.rig.boot()
        return self.answered()

    def charge(self, amps=10.0):
        self.station.began(1, self.rig.start(), self.now)
        self.limit(amps)

    def limit(self, amps):
        """One limit; gives what was sent for it."""
        self.rig.set_limit(amps)
        return self.answered()

    def wait(self, seconds):
        self.rig.pass_time(seconds)
        return self.answered()

    def answered(self):
        waiting, before = self.rig.calls_down(), len(self.rig.down)
        self.station.obey(self.rig)
        sent = [m for m in (*waiting, *self.rig.down[before:]) if m[0] == 2]
        live = [m for m in sent if m[2] == "UpdateDynamicSchedule" or "TxProfile" in str(m)]
        return [(m[2], kind(m)) for m in live]

    @property
    def allowed_a(self):
        return self.station.allowed_a(1, self.now)

    @property
    def counted_a(self):
        return self.rig.state().in_force_a


def kind(message):
    return message[3].get("chargingProfile", {}).get("chargingProfileKind", message[3].get("scheduleUpdate"))


def test_after_one_whole_profile_only_values_are_sent_until_its_refresh():
    site = Site()
    site.charge(10.0)
    assert site.rig.session.keeper.study.personality.dynamic_ends
    assert site.limit(14.0) == [("UpdateDynamicSchedule", {"limit": 14.0})]
    assert site.limit(7.5) == [("UpdateDynamicSchedule", {"limit": 7.5})]
    assert site.allowed_a == site.counted_a == 7.5
    assert site.wait(REFRESH_S - 1) == []
    assert site.wait(2) == [("SetChargingProfile", "Dynamic")]
    assert site.limit(9.0) == [("UpdateDynamicSchedule", {"limit": 9.0})]


def test_without_us_it_ends_and_what_may_be_in_force_is_never_counted_too_low():
    site = Site()
    site.charge(10.0)
    site.wait(REFRESH_S - 10)
    site.limit(20.0)
    site.rig.close()
    ended_s = None
    for second in range(2 * LIFE_S):
        site.rig.pass_time(1, keep_setpoints=False)
        assert site.counted_a >= site.allowed_a
        if site.allowed_a == 6.0 and ended_s is None:
            ended_s = second
    assert ended_s == pytest.approx(LIFE_S, abs=2)  # counted from the last value, by the book
    assert site.counted_a == 6.0


def test_after_a_reconnect_the_whole_profile_is_sent():
    site = Site()
    site.charge(10.0)
    site.limit(12.0)
    site.rig.close()
    assert site.connect() == [("SetChargingProfile", "Dynamic")]


def never_ends(station):
    """Shows the same limit for ever."""
    honest = station.answer

    def answer(message, now):
        said = honest(message, now)
        if message[2] == "GetCompositeSchedule" and "schedule" in said:
            profile = next((p for _, p, _ in station.installed if p["chargingProfileKind"] == "Dynamic"), None)
            if profile is not None:
                del said["schedule"]["chargingSchedulePeriod"][1:]
        return said

    return answer


def refuses_values(station):
    honest = station.answer
    return lambda message, now: (
        {"status": "Rejected"} if message[2] == "UpdateDynamicSchedule" else honest(message, now)
    )


@pytest.mark.parametrize("way", [never_ends, refuses_values])
def test_where_it_does_not_show_that_they_end_or_takes_no_values_whole_profiles_go_on(way):
    site = Site()
    site.station.answer = way(site.station)
    site.charge(10.0)
    for amps in (12.0, 13.0, 14.0, 15.0):
        site.limit(amps)
        assert site.allowed_a == site.counted_a == amps
    assert site.limit(11.0) == [("SetChargingProfile", "Absolute")]
    own = site.rig.session.keeper.study.personality
    assert "tx/1/A/dynamic" in own.bad
    assert own.dead_man is True

    site.rig = site.rig.again()
    site.connect()
    assert site.limit(12.0) == [("SetChargingProfile", "Absolute")]  # it is remembered


def test_one_that_takes_no_second_stack_level_is_not_asked_for_one():
    site = Site()
    honest = site.station.answer

    def answer(message, now):
        said = honest(message, now)
        for told in said.get("getVariableResult", ()):
            said["getVariableResult"].append(told | {"variable": {"name": "ProfileStackLevel"}, "attributeValue": "0"})
            break
        return said

    site.station.answer = answer
    site.rig.close()
    site.connect()
    site.station.began(1, site.rig.start(), site.now)
    assert site.limit(10.0) == [("SetChargingProfile", "Absolute")]
