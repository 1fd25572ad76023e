"""SunSpec register images, written by hand from the standard's layout tables; nothing here reads our maps.

Offsets are those of the SunSpec Device Information Model Specification, counted from a model's ID register. A number
is written raw, as the device would hold it; expected values in the tests are worked out by hand beside them.
"""

import struct

SUNS = [0x5375, 0x6E53]
END = [0xFFFF, 0]
NOT_INT16 = 0x8000
NOT_UINT16 = 0xFFFF


def words(kind: str, value: float) -> list[int]:
    raw = struct.pack(f">{kind}", value)
    return list(struct.unpack(f">{len(raw) // 2}H", raw))


def common() -> list[int]:
    """Model 1, length 66."""
    text = b"Hand made".ljust(32, b"\0") + b"Image".ljust(32, b"\0") + b"\0" * 16 + b"1.0".ljust(16, b"\0")
    text += b"0001".ljust(32, b"\0")
    return [1, 66, *struct.unpack(">64H", text), 1, 0x8000]


def meter_203() -> list[int]:
    """Model 203, length 105: importing 5.00 A on A, exporting 3.00 A (given as a magnitude) on B, 0.50 A on C."""
    block = [NOT_INT16] * 107
    block[0:2] = [203, 105]
    block[2:7] = [850, 500, 300, 50, 0xFFFE]  # A, AphA..C, A_SF = -2
    block[7:18] = [2300, 2301, 2299, 2310, NOT_INT16, NOT_INT16, NOT_INT16, NOT_INT16, 0xFFFF, 500, 0xFFFF]
    #             PhV   PhVphA PhVphB PhVphC PPV and its phases                      V_SF -1  Hz   Hz_SF -1
    block[18:23] = [58, 115, 0x10000 - 68, 11, 1]  # W, WphA..C = 1150, -680, 110 W; W_SF = 1
    block[38:40] = words("I", 1234)  # TotWhExp
    block[46:48] = words("I", 56789)  # TotWhImp
    block[54] = 1  # TotWh_SF
    return block


def meter_213() -> list[int]:
    """Model 213, length 124, floats."""
    block = words("f", float("nan")) * 63
    block[0:2] = [213, 124]
    for offset, value in (
        (2, 33.0), (4, 10.0), (6, 11.0), (8, 12.0),  # A, AphA..C
        (12, 230.0), (14, 231.0), (16, 229.0),  # PhVphA..C
        (26, 50.0),  # Hz
        (28, 7400.0), (30, 2250.0), (32, 2500.0), (34, 2650.0),  # W, WphA..C
        (68, 98765.0),  # TotWhImp
    ):  # fmt: skip
        block[offset : offset + 2] = words("f", value)
    return block


def inverter_103() -> list[int]:
    """Model 103, length 50: produces 6900 W, 10.0 A a phase."""
    block = [NOT_UINT16] * 52
    block[0:2] = [103, 50]
    block[2:7] = [300, 100, 100, 100, 0xFFFF]  # A, AphA..C, A_SF = -1
    block[10:14] = [2305, 2305, 2305, 0xFFFF]  # PhVphA..C, V_SF = -1
    block[14:16] = [690, 1]  # W, W_SF
    block[16:18] = [5001, 0xFFFE]  # Hz, Hz_SF = -2
    block[24:27] = [*words("I", 424242), 0]  # WH, WH_SF
    return block


def battery_124() -> list[int]:
    """Model 124, length 24: 62.5 % charged."""
    block = [NOT_UINT16] * 26
    block[0:2] = [124, 24]
    block[2] = 5000  # WChaMax
    block[8] = 625  # ChaState
    block[11] = 4  # ChaSt: charging
    block[18:26] = [0, 0, 0x8000, 0x8000, 0xFFFF, 0x8000, 0x8000, 0x8000]  # ..., ChaState_SF = -1, ...
    return block


def chain(*models: list[int]) -> list[int]:
    """Marker, models, end."""
    return [*SUNS, *(word for model in models for word in model), *END]
