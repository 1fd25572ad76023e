"""Register words to numbers, against words worked out by hand."""

import math

import pytest

from adapters.modbus.decode import Point, Request, decode, grouped


def one(kind, words, *, scale=1.0, high_word_first=True, exponent=None):
    found = {("input", 10 + n): word for n, word in enumerate(words)}
    if exponent is not None:
        found["input", 99] = exponent
    point = Point("total_power_w", "input", 10, kind, scale, None if exponent is None else 99, high_word_first)
    return decode([point], found).get("total_power_w")


@pytest.mark.parametrize(
    ("kind", "words", "value"),
    [
        ("int16", [0xFFFF], -1),
        ("uint16", [0xFFFE], 65_534),
        ("int32", [0xFFFF, 0xFFFF], -1),
        ("int32", [0x0001, 0x0000], 65_536),
        ("uint32", [0x0001, 0x0002], 65_538),
        ("int64", [0xFFFF, 0xFFFF, 0xFFFF, 0xFFFE], -2),
        ("uint64", [0, 1, 0, 0], 4_294_967_296),
        ("acc32", [0, 7], 7),
        ("float32", [0x4366, 0x0000], 230.0),  # 230 = 0x43660000
        ("float64", [0x406C, 0xC000, 0, 0], 230.0),  # 230 = 0x406CC00000000000
    ],
)
def test_types_in_both_word_orders(kind, words, value):
    assert one(kind, words) == value
    assert one(kind, words[::-1], high_word_first=False) == value


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("int16", [0x8000]), ("uint16", [0xFFFF]), ("int32", [0x8000, 0]), ("uint32", [0xFFFF, 0xFFFF]),
        ("int64", [0x8000, 0, 0, 0]), ("uint64", [0xFFFF] * 4), ("acc32", [0, 0]), ("acc64", [0, 0, 0, 0]),
        ("float32", [0x7FC0, 0]), ("float32", [0x7F80, 0]), ("float32", [0xFF80, 0]), ("float64", [0x7FF8, 0, 0, 0]),
    ],
)  # fmt: skip
def test_m4_sentinels_are_missing(kind, words):
    assert one(kind, words) is None


def test_scale_and_scale_factor():
    assert one("int16", [2301], scale=-0.1) == pytest.approx(-230.1)
    assert one("int16", [2301], exponent=0xFFFF) == pytest.approx(230.1)  # 10^-1
    assert one("int16", [23], exponent=1) == 230
    assert one("int16", [23], exponent=0x8000) is None  # scale factor not implemented
    assert one("int16", [23], exponent=11) is None  # beyond the standard's -10 to 10


def test_near_registers_share_a_request_and_no_number_is_split():
    points = [Point("a", "input", address, "float32") for address in (0, 2, 6, 40, 52, 70)]
    assert grouped(points, max_count=125, max_gap=8) == (
        Request("input", 0, 8),
        Request("input", 40, 2),
        Request("input", 52, 2),
        Request("input", 70, 2),
    )
    long = [Point("a", "holding", address, "float32") for address in range(0, 300, 2)]
    requests = grouped(long, max_count=125, max_gap=0)
    assert all(request.count <= 125 for request in requests)
    assert sum(request.count for request in requests) == 300
    assert all(request.address % 2 == 0 and request.count % 2 == 0 for request in requests)
    tables = [Point("a", "input", 0, "int16"), Point("b", "holding", 1, "int16")]
    assert len(grouped(tables, max_count=125, max_gap=8)) == 2


def test_the_first_point_of_a_name_that_gives_a_number_wins():
    points = [Point("soc_percent", "holding", 0, "uint16"), Point("soc_percent", "holding", 1, "uint16")]
    assert decode(points, {("holding", 0): 80, ("holding", 1): 20}) == {"soc_percent": 80}
    assert decode(points, {("holding", 0): 0xFFFF, ("holding", 1): 20}) == {"soc_percent": 20}
    assert not any(math.isnan(value) for value in decode(points, {("holding", 0): 1, ("holding", 1): 1}).values())
