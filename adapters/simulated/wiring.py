"""Which simulated device stands behind which entry of a site file."""

from collections.abc import Callable, Mapping

from adapters.simulated.modbus_devices import ModbusDevice
from adapters.simulated.mqtt_meter import MqttMeter
from adapters.simulated.personality import Personality
from adapters.simulated.plant import Plant
from adapters.simulated.registers import SUNSPEC_BASE, sdm630, sunspec_inverter, sunspec_meter
from adapters.simulated.station import Emit, SimulatedStation
from adapters.simulated.station_v16 import Station16
from adapters.simulated.station_v201 import Station201
from cem.config.modbus_models import ModbusTcp
from cem.config.models import Device, SiteFile
from cem.config.mqtt_models import MqttBroker
from cem.core.units import PerPhase

_ORDER = {"L1": 0, "L2": 1, "L3": 2}


class Tap:
    """What one device measures in the plant, on its own terminals and with its own sign."""

    def __init__(self, device: Device, plant: Plant) -> None:
        self._device, self._plant = device, plant
        metered = [z.zone_id for z in plant.site.zones if z.meter_id == device.id]
        self._zone_id = metered[0] if metered else None
        self._order = [_ORDER[device.phase_order[i : i + 2]] for i in (0, 2, 4)]

    def amps(self) -> PerPhase:
        """Signed current on its terminals 1, 2, 3."""
        grid = self._grid_amps()
        sign = -1.0 if self._device.invert else 1.0
        return PerPhase.of(sign * grid[wire] for wire in self._order)

    def energies_wh(self) -> tuple[float, float]:
        """Imported and exported."""
        if self._zone_id is None:
            return 0.0, 0.0
        energies = self._plant.import_wh[self._zone_id], self._plant.export_wh[self._zone_id]
        return (energies[1], energies[0]) if self._device.invert else energies

    def values(self) -> Mapping[str, float]:
        """By the site file's names of values."""
        amps, voltage_v = self.amps(), self._plant.voltage_v
        values: dict[str, float] = {"total_power_w": amps.total * voltage_v, "energy_wh": self.energies_wh()[0]}
        for p in range(3):
            values |= {
                f"current_l{p + 1}_a": amps[p],
                f"power_l{p + 1}_w": amps[p] * voltage_v,
                f"voltage_l{p + 1}_v": voltage_v,
            }
        if self._device.role == "battery":
            values["soc_percent"] = 100 * self._plant.inverters[self._device.id].soc
        return values

    def _grid_amps(self) -> PerPhase:
        plant = self._plant
        if self._zone_id is not None:
            return plant.zone_current_a(self._zone_id)
        if self._device.role in {"pv", "battery"}:
            return plant.inverters[self._device.id].current_a(plant.voltage_v, plant.site.phases)
        watts = plant.household_power_w(self._device.zone or plant.site.root.zone_id)
        return PerPhase.of(w / plant.voltage_v for w in watts)


def modbus_device(device: Device, plant: Plant) -> ModbusDevice:
    """The server for a Modbus device: SunSpec, or the plain register map of an SDM630.

    Raises:
        ValueError: Its model is none that can be simulated.
    """
    connection, model = device.connection, device.model or ""
    if not isinstance(connection, ModbusTcp):
        raise TypeError(f"{device.id} is not a Modbus device")
    tap, base = Tap(device, plant), SUNSPEC_BASE
    most_a = 2 * max(z.protection.rating_a for z in plant.site.zones)

    def meter_image() -> list[int]:
        return sunspec_meter(tap.amps(), plant.voltage_v, most_a, tap.energies_wh(), device.id)

    def inverter_image() -> list[int]:
        return sunspec_inverter(plant, device.id, device.id)

    def sdm630_image() -> list[int]:
        return sdm630(tap.amps(), plant.voltage_v, tap.energies_wh())

    if "sdm630" in model:
        image, base = sdm630_image, 0
    elif "sunspec" in model:
        image = inverter_image if device.role in {"pv", "battery"} else meter_image
    else:
        raise ValueError(f"{device.id}: no simulated device speaks the model {model!r} (SunSpec and SDM630 do)")
    return ModbusDevice(
        device.id, image, base=base, host=connection.host, port=connection.port, unit_id=connection.unit_id
    )


def mqtt_meter(device: Device, plant: Plant) -> MqttMeter:
    """The publisher for a device on the broker."""
    connection = device.connection
    if not isinstance(connection, MqttBroker):
        raise TypeError(f"{device.id} is not an MQTT device")
    topics = {str(name): place for name, place in device.values.items()}
    return MqttMeter(device.id, connection.port, topics, Tap(device, plant).values, device.poll_s)


def stations(
    file: SiteFile,
    plant: Plant,
    *,
    emit: Emit,
    utc_s: Callable[[], float],
    personalities: Mapping[str, Personality] | None = None,
) -> dict[str, SimulatedStation]:
    """The stations of a site file; every third speaks OCPP 2.0.1, the others 1.6J."""
    url = f"ws://127.0.0.1:{file.csms.listen.port}/ocpp"
    found: dict[str, SimulatedStation] = {}
    for index, section in enumerate(file.stations):
        kind = Station201 if index % 3 == 2 else Station16
        found[section.id] = kind(
            section.id,
            url,
            [plant.points[f"{section.id}/{evse.id}"] for evse in section.evses],
            emit=emit,
            utc_s=utc_s,
            password=section.password,
            personality=(personalities or {}).get(section.id),
            voltage_v=plant.voltage_v,
        )
    return found
