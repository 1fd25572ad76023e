"""Register words to numbers, against words worked out by hand."""

import pytest

from adapters.modbus.decode import Decoder, Point, Request, block_of, decode_words, encode_words, grouped


def one(kind, words, *, scale=1.0, high_word_first=True, exponent=None):
    requests, blocks = [Request("input", 10, len(words))], [block_of(words)]
    if exponent is not None:
        requests.append(Request("input", 99, 1))
        blocks.append(block_of([exponent]))
    point = Point("total_power_w", "input", 10, kind, scale, None if exponent is None else 99, high_word_first)
    return Decoder([point], requests).decode(blocks).get("total_power_w")


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
    decoder = Decoder(points, [Request("holding", 0, 2)])
    assert decoder.decode([block_of([80, 20])]) == {"soc_percent": 80}
    assert decoder.decode([block_of([0xFFFF, 20])]) == {"soc_percent": 20}


def test_points_that_overlap_or_are_to_be_summed():
    points = [
        Point("a", "holding", 0, "uint32"),
        Point("b", "holding", 1, "uint16"),  # the low word of a
        Point("b_low_first", "holding", 0, "uint32", high_word_first=False),
        Point("sum", "holding", 3, "int16", add=True),
        Point("sum", "holding", 4, "int16", add=True),
        Point("sum", "holding", 5, "int16", add=True),
    ]
    decoder = Decoder(points, [Request("holding", 0, 6)])
    found = decoder.decode([block_of([1, 2, 77, 5, 0x8000, 6])])
    assert found == {"a": 65_538, "b": 2, "b_low_first": 131_073, "sum": 11}


def test_out_of_its_range_is_missing():
    decoder = Decoder([Point("a", "holding", 0, "int16", 0.1, valid=(-10, 10))], [Request("holding", 0, 1)])
    assert decoder.decode([block_of([100])]) == {"a": 10}
    assert decoder.decode([block_of([101])]) == {}


@pytest.mark.parametrize(
    ("kind", "number", "words"),
    [
        ("int16", -1, [0xFFFF]), ("uint16", 65_534, [0xFFFE]), ("int32", -2, [0xFFFF, 0xFFFE]),
        ("uint32", 65_538, [1, 2]), ("float32", 230.0, [0x4366, 0]), ("int16", 2.6, [3]),
    ],
)  # fmt: skip
def test_numbers_become_words_and_come_back(kind, number, words):
    assert encode_words(kind, number) == words
    assert encode_words(kind, number, high_word_first=False) == words[::-1]
    assert decode_words(kind, words) == (number if kind == "float32" else round(number))
    assert decode_words(kind, words[::-1], high_word_first=False) == decode_words(kind, words)


def test_what_does_not_fit_is_said():
    with pytest.raises(ValueError, match="70000 does not fit uint16"):
        encode_words("uint16", 70_000)
    assert decode_words("int16", [0x8000]) is None
