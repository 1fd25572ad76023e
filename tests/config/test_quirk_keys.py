"""Keys for peers that do not follow the standard: what is refused of them, and how it is said."""

from pathlib import Path

import pytest

from tests.config.sites import GOOD, load, refused, spoiled

ST_1 = "  - id: st-1\n"
PORT = "  listen: {port: 9000}\n"


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ("assume_subprotocol: ocpp1.5", "ocpp1.6"),
        ("assume_subprotocol: ocpp1.6\n    kind: site", "leave assume_subprotocol out"),
        (
            "assume_subprotocol: ocpp1.6\n    modbus: {connection: {kind: modbus_tcp, host: 10.0.0.9}, model: keba_p30}",
            "'st-1' is commanded by Modbus: leave assume_subprotocol out",
        ),
    ],
)
def test_a_version_is_assumed_of_ocpp_stations_alone(tmp_path: Path, own: str, said: str) -> None:
    told = refused(tmp_path, spoiled((ST_1, f"{ST_1}    {own}\n")))
    assert any(line.split(": ", 1)[1].startswith("stations[0].assume_subprotocol") and said in line for line in told), (
        told
    )


def test_a_version_is_assumed_where_the_site_file_says_so(tmp_path: Path) -> None:
    site = load(tmp_path, spoiled((ST_1, f"{ST_1}    assume_subprotocol: ocpp2.0.1\n"))).file
    assert [station.assume_subprotocol for station in site.stations] == ["ocpp2.0.1", None]


def test_a_boot_is_told_again_to_upstreams_that_hear_of_stations(tmp_path: Path) -> None:
    up = "  upstreams: [{{id: up, url: 'wss://x', replay_boot: true{0}}}]\n"
    assert load(tmp_path, spoiled((PORT, PORT + up.format("")))).file.csms.upstreams[0].replay_boot
    own = ", role: site, own_identity: {id: me}"
    told = refused(tmp_path, spoiled((PORT, PORT + up.format(own))))
    assert any("csms.upstreams[0].replay_boot: upstream 'up' hears of no station" in line for line in told), told
    assert "replay_boot" not in GOOD
