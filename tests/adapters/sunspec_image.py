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


def text(letters: str, registers: int) -> list[int]:
    return list(struct.unpack(f">{registers}H", letters.encode().ljust(2 * registers, b"\0")))


def nameplate_120() -> list[int]:
    """Model 120, length 26: a PV device (4) of 10 kW."""
    block = [NOT_UINT16] * 28
    block[0:5] = [120, 26, 4, 100, 2]  # DERTyp, WRtg, WRtg_SF
    return block


def controls_123() -> list[int]:
    """Model 123, length 24: nothing curtailed; percentages in hundredths."""
    block = [0] * 26
    block[0:2] = [123, 24]
    block[4] = 1  # Conn
    block[5] = 10_000  # WMaxLimPct
    block[23:26] = [0xFFFE, 0xFFFE, 0xFFFE]  # WMaxLimPct_SF = -2, ...
    return block


def mppt_160() -> list[int]:
    """Model 160, length 8 + 4 x 20: two strings of 3200 W and 1500 W, and a battery's two inputs, as a GEN24 has them."""
    head = [160, 88, 0xFFFE, 0xFFFF, 0, 0x8000, 0, 0, 4, NOT_UINT16]  # DCA_SF, DCV_SF, DCW_SF = 0, ..., N = 4
    block = list(head)
    for number, (name, watts) in enumerate(
        (("MPPT 1", 3200), ("MPPT 2", 1500), ("StCha 3", 900), ("StDisCha 4", 0)), 1
    ):
        block += [number, *text(name, 8), 800, 4000, watts, 0, 0, 0, 0, 0x8000, 4, 0, 0]
    return block


def measured_701() -> list[int]:
    """Model 701, length 153: produces 6000 W over three phases of 8.7 A."""
    block = [NOT_INT16] * 155
    block[0:6] = [701, 153, 3, 1, 3, 1]
    block[10] = 600  # W
    block[17:19] = words("I", 5002)  # Hz
    for base, volts in ((41, 2300), (64, 2310), (87, 2290)):
        block[base] = 200  # WL1..3
        block[base + 4] = 87  # AL1..3
        block[base + 6] = volts  # VL1..3
    block[113:117] = [0xFFFF, 0xFFFF, 0xFFFE, 1]  # A_SF -1, V_SF -1, Hz_SF -2, W_SF 1
    return block


def controls_704() -> list[int]:
    """Model 704, length 65 (with its four power factor pairs): all off."""
    block = [0] * 67
    block[0:2] = [704, 65]
    block[53:59] = [0xFFFD, 0xFFFF, 1, 0xFFFF, 1, 0xFFFF]  # PF, WMaxLimPct -1, WSet 1, WSetPct, VarSet, VarSetPct
    return block


def storage_713() -> list[int]:
    """Model 713, length 7: 8.1 of 10 kWh, 81.5 %."""
    return [713, 7, 100, 81, 815, 990, 0, 2, 0xFFFF]


def dc_714() -> list[int]:
    """Model 714, length 18, no ports: 6150 W DC."""
    block = [NOT_INT16] * 20
    block[0:5] = [714, 18, 0, 0, 0]
    block[6] = 615  # DCW
    block[15:19] = [0xFFFF, 0xFFFF, 1, 0]  # DCA_SF, DCV_SF, DCW_SF = 1, DCWH_SF
    return block


def control_715() -> list[int]:
    """Model 715, length 7: remote control."""
    return [715, 7, 0, *words("I", 17), *words("I", 0), 0, 1]


def battery_802() -> list[int]:
    """Model 802, length 62: 40 %, reserve 10 %."""
    block = [NOT_UINT16] * 64
    block[0:2] = [802, 62]
    block[9:12] = [1000, 100, 400]  # SocRsvMax, SoCRsvMin, SoC
    block[18:20] = [3, 0]  # Hb, CtrlHb
    block[52:64] = [0, 0, 0, 0, 0xFFFF, 0, 0, 0, 0, 0, 0, 0]  # ..., SoC_SF = -1, ...
    return block
