"""Who would draw its maximum if the controller died, and what that overloads, while it lives."""

from cem.core.site import Evse, Protection, Site, Zone
from cem.csms.personality import Personality
from cem.web import html
from cem.web.alone import overloads, without_dead_man


def site(rating_a):
    zones = (
        Zone("main", None, Protection(100.0), uncontrolled_max_a=20.0),
        Zone("garage", "main", Protection(rating_a), uncontrolled_max_a=2.0),
    )
    one_phase = {"fallback_a": 6.0, "max_a": 20.0, "phases": 1, "rotation": (1,)}
    evses = (
        Evse("A/1", "A", "garage", 1, fallback_a=6.0, rotation=(0, 1, 2)),
        Evse("B/1", "B", "garage", 1, fallback_a=6.0),
        Evse("C/1", "C", "garage", 1, **one_phase),
    )
    return Site("x", 230.0, 3, zones, evses)


def test_zones_that_would_be_overloaded_are_told_with_who_it_is_for():
    assert list(overloads(site(40.0), {"A": None, "B": None})) == []
    (told,) = overloads(site(45.0), {"A": None, "B": "it refuses", "C": None})  # 2 + 6 + 32 + 6 on L2
    assert "zone garage may carry 46 A of its 45 A" in told
    assert "by themselves: B. " in told
    assert list(overloads(site(46.0), {"A": None, "B": "it refuses", "C": None})) == []
    garage, main = sorted(overloads(site(45.0), dict.fromkeys("ABC", "it refuses")))
    assert "zone garage may carry 86 A" in garage
    assert "zone main may carry 104 A of its 100 A" in main
    assert "A, B, C" in main


def test_the_page_shows_of_a_personality_what_matters():
    good = Personality(("Acme", "Box", "1.0"), way="tx/1/A", dead_man=True, reaction_s=4.0)
    odd = Personality(("Acme", "Box", "1.0"), way="tx/0/W", dead_man=False, dead_man_by="it refuses")
    new = Personality(("Acme", "Box", "1.0"))
    csms = {
        "stations": [
            {"id": name, "online": True, "personality": own.record()}
            for name, own in (("S1", good), ("S2", odd), ("S3", new))
        ]
    }
    assert without_dead_man(csms) == {"S1": None, "S2": "it refuses", "S3": None}
    drawn = html.draw("x", {"csms": csms}, {"status": "ok"}, ())["csms"]
    rows = drawn.split("<tr>")[2:]
    assert all(word in rows[0] for word in ("tx/1/A", "4\u202fs", "falls back"))
    assert all(word in rows[1] for word in ("tx/0/W", "it refuses"))
    assert "falls back" not in rows[2]
    assert "if the controller dies" in drawn
    assert "not seen yet" not in drawn
