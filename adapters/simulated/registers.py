"""Register images of the simulated field devices: SunSpec models from their definitions, and one plain map."""

import functools
import importlib.resources
import json
import struct
from collections.abc import Mapping
from typing import Any

from adapters.simulated.plant import Inverter, Plant
from cem.core.units import PerPhase

SUNSPEC_BASE = 40_000

_PACK = {"uint16": ">H", "int16": ">h", "sunssf": ">h", "enum16": ">H", "bitfield16": ">H", "pad": ">H"}
_PACK |= {"acc32": ">I", "bitfield32": ">I", "uint32": ">I", "int32": ">i"}
_NOT_THERE = {"uint16": 0xFFFF, "int16": -0x8000, "sunssf": -0x8000, "enum16": 0xFFFF, "bitfield16": 0xFFFF}
_NOT_THERE |= {"pad": 0x8000, "acc32": 0, "bitfield32": 0xFFFFFFFF, "uint32": 0xFFFFFFFF, "int32": -0x80000000}


@functools.cache
def _points(model_id: int) -> list[dict[str, Any]]:
    path = importlib.resources.files("sunspec2") / "models" / "json" / f"model_{model_id}.json"
    points: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["group"]["points"]
    return points


def sunspec_model(model_id: int, values: Mapping[str, float | str], scales: Mapping[str, int]) -> list[int]:
    """One SunSpec model as registers, header included.

    Args:
        model_id: Of the SunSpec information model.
        values: Point name to its value in the model's unit; points left out read "not implemented".
        scales: Scale factor name to its power of ten.
    """
    points = _points(model_id)
    data = b""
    for point in points:
        name, kind = point["name"], point["type"]
        value: float | str | None = values.get(name)
        if name == "ID":
            value = model_id
        elif name == "L":
            value = sum(p["size"] for p in points) - 2
        elif kind == "sunssf":
            value = scales.get(name)
        if kind == "string":
            data += str(value or "").encode().ljust(2 * point["size"], b"\0")[: 2 * point["size"]]
            continue
        if isinstance(value, int | float):
            raw = round(value / 10.0 ** scales.get(str(point.get("sf")), 0))
        else:
            raw = _NOT_THERE[kind]
        data += struct.pack(_PACK[kind], raw)
    return list(struct.unpack(f">{len(data) // 2}H", data))


def sunspec_map(serial: str, product: str, *models: list[int]) -> list[int]:
    """A whole SunSpec map: marker, common model, the device's models, end."""
    common = sunspec_model(1, {"Mn": "Simulated", "Md": product, "Vr": "1", "SN": serial, "DA": 1}, {})
    return [0x5375, 0x6E53, *common, *(word for model in models for word in model), 0xFFFF, 0]


def _scales(most_a: float, most_w: float) -> tuple[int, int]:
    """Scale factors of A and W that keep the largest reading inside 16 bits."""
    return (-2 if most_a < 300 else -1 if most_a < 3000 else 0), (0 if most_w < 30_000 else 1 if most_w < 3e5 else 2)


def sunspec_meter(
    amps: PerPhase, voltage_v: float, most_a: float, energies_wh: tuple[float, float], serial: str
) -> list[int]:
    """Model 203; import positive.

    Args:
        amps: Signed current on its terminals.
        voltage_v: Phase to neutral.
        most_a: The most it ever has to show, for its scale factors.
        energies_wh: Imported and exported energy.
        serial: Its serial number.
    """
    watts = PerPhase.of(a * voltage_v for a in amps)
    a_sf, w_sf = _scales(most_a, 3 * most_a * voltage_v)
    values: dict[str, float | str] = {"A": amps.total, "PhV": voltage_v, "Hz": 50.0, "W": watts.total, "PF": 1.0}
    for p, phase in enumerate("ABC"):
        values |= {f"Aph{phase}": amps[p], f"PhVph{phase}": voltage_v, f"Wph{phase}": watts[p]}
    values |= {"TotWhImp": energies_wh[0], "TotWhExp": energies_wh[1], "Evt": 0}
    scales = {"A_SF": a_sf, "V_SF": -1, "Hz_SF": -2, "W_SF": w_sf, "PF_SF": -2, "TotWh_SF": 0}
    return sunspec_map(serial, "Meter", sunspec_model(203, values, scales))


def _inverter_model(inverter: Inverter, voltage_v: float, phases: int) -> list[int]:
    most_w = inverter.resource.max_w
    a_sf, w_sf = _scales(most_w / voltage_v, most_w)
    amps = inverter.current_a(voltage_v, phases)
    values: dict[str, float | str] = {
        "A": abs(amps.total),
        "W": -inverter.power_w,  # SunSpec 103: production is positive
        "Hz": 50.0,
        "WH": inverter.produced_wh,
        "TmpCab": 35.0,
        "St": 4 if inverter.running else 7,  # MPPT, FAULT
        "Evt1": 0,
        "Evt2": 0,
    }
    for p, phase in enumerate("ABC"):
        values |= {f"Aph{phase}": abs(amps[p]), f"PhVph{phase}": voltage_v}
    scales = {"A_SF": a_sf, "V_SF": -1, "W_SF": w_sf, "Hz_SF": -2, "WH_SF": 0, "Tmp_SF": 0}
    return sunspec_model(103, values, scales)


def sunspec_inverter(plant: Plant, resource_id: str, serial: str) -> list[int]:
    """Models 103 (PV) or 103 and 124 (battery); production and discharging positive."""
    inverter = plant.inverters[resource_id]
    model = _inverter_model(inverter, plant.voltage_v, plant.site.phases)
    if inverter.resource.kind.value == "pv":
        return sunspec_map(serial, "Inverter", model)
    state = 6 if abs(inverter.power_w) < 5 else 4 if inverter.power_w > 0 else 3  # holding, charging, discharging
    values = {"WChaMax": inverter.resource.max_w, "WChaGra": 100, "WDisChaGra": 100, "StorCtl_Mod": 0}
    values |= {"ChaState": 100 * inverter.soc, "ChaSt": state}
    _, w_sf = _scales(1, inverter.resource.max_w)
    scales = {"WChaMax_SF": w_sf, "WChaDisChaGra_SF": 0, "ChaState_SF": -1}
    return sunspec_map(serial, "Battery", model, sunspec_model(124, values, scales))


SDM630_LENGTH = 80


def sdm630(amps: PerPhase, voltage_v: float, energies_wh: tuple[float, float]) -> list[int]:
    """Eastron SDM630 input registers 0 to 79: 32-bit floats, high word first; currents are magnitudes."""
    floats = [0.0] * (SDM630_LENGTH // 2)
    for p in range(3):
        floats[p] = voltage_v
        floats[3 + p] = abs(amps[p])
        floats[6 + p] = amps[p] * voltage_v
        floats[9 + p] = abs(amps[p]) * voltage_v
        floats[15 + p] = 1.0
    floats[21] = voltage_v
    floats[23] = sum(abs(a) for a in amps) / 3
    floats[24] = sum(abs(a) for a in amps)
    floats[26] = amps.total * voltage_v
    floats[35] = 50.0
    floats[36], floats[37] = energies_wh[0] / 1000, energies_wh[1] / 1000
    data = struct.pack(f">{len(floats)}f", *floats)
    return list(struct.unpack(f">{len(data) // 2}H", data))
