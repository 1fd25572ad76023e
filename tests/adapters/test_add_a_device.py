"""The readme's way to add a Modbus device, step by step: a made-up meter, from the sample map to a verdict."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from adapters.modbus import maps
from tests.adapters import image_files
from tests.adapters.modbus_server import Server
from tests.adapters.test_device_tools import Serving, cem, entry, site_file

README = Path(__file__).parents[2] / "adapters" / "README.md"

# The manual of a meter that nobody sells: input registers 30101 ..., low word first, mA and W, feed-in positive.
IMAGE = """
model: my_meter
role: grid_meter
phases: 3
table: input
unit: 5
gaps: refused
identified: true
registers:
  9: [0x4D59]                                        # its name: "MY"
  100: [2301, 2312, 2298]                            # 0.1 V
  103: [0x2710, 0x0000, 0x1388, 0x0000, 0x0000, 0x0000]  # 10 A, 5 A, 0 A
  109: [0xF704, 0xFFFF, 0x0474, 0x0000, 0x0000, 0x0000]  # -2300 W (drawn), 1140 W (fed in), 0 W
  300: [125]                                         # set: 12.5 %
expect:
  voltage_v: [230.1, 231.2, 229.8]
  current_a: [10, -5, 0]
  power_w: [2300, -1140, 0]
  total_power_w: 1160
writes: []
"""


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Copies, so that the test leaves nothing behind."""
    monkeypatch.setattr(maps, "FOLDER", shutil.copytree(maps.FOLDER, tmp_path / "modbus_maps"))
    monkeypatch.setattr(image_files, "FOLDER", tmp_path)
    maps.known_models.cache_clear()
    maps.load_map.cache_clear()
    yield tmp_path
    maps.known_models.cache_clear()
    maps.load_map.cache_clear()


def test_the_steps_of_the_readme_lead_to_a_device_that_is_found_read_and_written(folders):
    steps = README.read_text().partition("## Add a Modbus device")[2].partition("\n## ")[0]
    assert len(re.findall(r"^\d\. ", steps, re.MULTILINE)) == 6
    for named in ("modbus_maps/generic_meter.yaml", "register_images/NAME.yaml", "verified: false", "cem device test"):
        assert named in steps

    # 5: the image comes from the manual, before there is a map
    (folders / "my_meter.yaml").write_text(IMAGE)
    image = image_files.load("my_meter")

    # 3, 4: the sample, changed where this meter differs
    text = (maps.FOLDER / "generic_meter.yaml").read_text()
    document = yaml.safe_load(text)
    assert set(document["values"]) >= {"voltage_l1_v", "current_l1_a", "power_l1_w"}
    document |= {
        "title": "My meter", "verified": False, "sources": ["the manual"], "table": "input", "word_order": "little",
        "positive": "export", "unsigned_currents": True, "identify": [{"address": 9, "words": [0x4D59]}],
        "writes": {"limit_percent": {"address": 300, "type": "uint16", "scale": 0.1, "valid": [0, 100]}},
        "values": {
            f"{what}_l{n}_{unit}": {"address": first + width * (n - 1), "type": kind, "scale": scale}
            for what, unit, first, width, kind, scale in (
                ("voltage", "v", 100, 1, "uint16", 0.1),
                ("current", "a", 103, 2, "uint32", 0.001),
                ("power", "w", 109, 2, "int32", 1),
            )
            for n in (1, 2, 3)
        },
    }  # fmt: skip
    (maps.FOLDER / "my_meter.yaml").write_text(yaml.safe_dump(document))

    with Serving(Server(image.served())) as server:
        # 1: a scan knows it now
        found = cem("scan", f"127.0.0.1:{server.port}", "--units", "5", "--url", "http://127.0.0.1:1")
        assert "model: my_meter" in found.stdout, found.output
        # 6: by its name in the site file
        file = site_file(folders, entry(image, server.port))
        assert "the map 'my_meter' could not be checked" in cem("check", file).output
        read = cem("device", "read", file)
        assert "my_meter: 1160 W, 10.0 -5.0 0.0 A, 2300.0 -1140.0 0.0 W, 230.1 231.2 229.8 V" in read.stdout
        tested = cem("device", "test", file, "--seconds", "1")
        assert "my_meter: usable, with remarks" in tested.stdout, tested.output
        written = cem("device", "write", file, "my_meter", "limit_percent", "60", "--confirm")
        assert written.stdout == "my_meter: limit_percent is 60\n", written.output
