"""Stations that anybody may pose as are marked in red on the page."""

from cem.web import html


def test_security_profile_0_is_marked_in_red_and_no_other_is():
    stations = [{"id": f"CS{profile}", "security_profile": profile} for profile in range(4)]
    drawn = html.draw("x", {"csms": {"stations": stations}}, {"status": "ok"}, ())["csms"]
    assert drawn.count('<span class="badge bad">0, nothing asked</span>') == 1
    assert "<th>security profile</th>" in drawn
    for profile in (1, 2, 3):
        assert f'<td data-label="security profile">{profile}</td>' in drawn
