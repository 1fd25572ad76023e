"""A whole simulated site in real time: the plant, every device's server, the stations, the DSO and the cloud."""

import asyncio
import random
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.simulated.cloud import Cloud
from adapters.simulated.ev import EvType
from adapters.simulated.household import Cloud as Cumulus
from adapters.simulated.household import Sky
from adapters.simulated.modbus_devices import ModbusDevice
from adapters.simulated.mqtt_meter import Broker, MqttMeter
from adapters.simulated.personality import Personality
from adapters.simulated.plant import Plant, hash_of
from adapters.simulated.reactions import Reactions
from adapters.simulated.station import Emit, SimulatedStation
from adapters.simulated.story import Step, Story
from adapters.simulated.truth import External, Judge, TruthFile, external_a
from adapters.simulated.wiring import modbus_device, mqtt_meter, stations
from cem.config.models import ExternalLimit, SiteFile
from cem.core.site import Site
from cem.core.units import PerPhase

if TYPE_CHECKING:
    from adapters.simulated.opcua_dso import DsoServer

STEP_S = 0.1
TRUTH_S = 0.5
AFTERNOON_HOUR = 15.5


class SimulatedSite:
    """Starts everything a site file names, lives its story, and says what really happened.

    Args:
        file: The site file; every address in it is served here, but for the controller's own.
        site: The same, as built.
        seed: Same seed, same plant.
        story: What happens.
        emit: Hears events: ``emit(name, **figures)``.
        truth: Where the plant's truth is written.
        outside: ``False`` leaves out appliances, clouds and every outside step of the story.
        personalities: Quirks by station.
    """

    def __init__(
        self,
        file: SiteFile,
        site: Site,
        *,
        seed: int = 1,
        story: Story | None = None,
        emit: Emit = lambda *_, **__: None,
        truth: Path | None = None,
        outside: bool = True,
        personalities: dict[str, Personality] | None = None,
        length_s: float = 3600.0,
    ) -> None:
        story = story or Story()
        self.file, self.site, self.seed = file, site, seed
        clouds = tuple(Cumulus(*cloud) for cloud in story.clouds) if outside else ()
        sky = Sky(seed, clouds, AFTERNOON_HOUR, length_s, own=outside and not clouds)
        self.plant = Plant(site, seed, appliances=outside, quiet=story.quiet, sky=sky, length_s=length_s)
        self.judge = Judge(site)
        self.over_s = story.over_s
        self._ahead_s = 0.0
        self._all_online = asyncio.Event()
        self._steps = sorted((s for s in story.steps if outside or not s.outside), key=lambda s: s.at_s)
        self._emit = emit
        self.stations = stations(file, self.plant, emit=self._hear, utc_s=self.utc_s, personalities=personalities or {})
        self.reactions = Reactions(self.plant, self.stations, emit)
        self.devices: dict[str, ModbusDevice] = {}
        self.meters: dict[str, MqttMeter] = {}
        self._brokers: dict[int, Broker] = {}
        for device in file.devices:
            if device.connection.kind != "mqtt":
                self.devices[device.id] = modbus_device(device, self.plant)  # over TCP only: it refuses the others
            else:
                self.meters[device.id] = mqtt_meter(device, self.plant)
                self._brokers.setdefault(device.connection.port, Broker(device.connection.port))
        self.dsos = {limit.id: _dso(limit) for limit in file.external_limits}
        self.clouds = [Cloud(_port(up.url), utc_s=self.utc_s, emit=emit) for up in file.csms.upstreams]
        self._truth = TruthFile(truth, site) if truth is not None else None
        self._truth_due_s = 0.0

    def utc_s(self) -> float:
        """The clock of everything that is simulated: UTC, and ahead of it after a fast-forward."""
        return time.time() + self._ahead_s

    # ---- life -----------------------------------------------------------------------------------------------------
    async def run(self, length_s: float, wait_s: float = 0.0) -> None:
        """Serves everything for a time, then ends it all.

        Args:
            length_s: Plant time.
            wait_s: Before it begins, wait at most this long for every station to be accepted by its CSMS.
        """
        try:
            async with asyncio.TaskGroup() as group:
                await self._start()
                running = [group.create_task(part.run()) for part in self._parts()]
                self._emit("serving")
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._all_online.wait()
                self._emit("started", online=sum(station.link.online for station in self.stations.values()))
                await self._live(length_s)
                for task in running:
                    task.cancel()
        finally:
            await self._stop()

    def summary(self) -> dict[str, Any]:
        """What really happened, so far."""
        worst = self.judge.worst
        return {
            "sessions_plant": sum(s.sessions for s in self.stations.values()),
            "sessions_cloud": sum(len(c.sessions) for c in self.clouds),
            "sessions_cloud_stopped": sum(s.stopped for c in self.clouds for s in c.sessions.values()),
            "messages_waiting": sum(s.link.waiting for s in self.stations.values()),
            "worst_overshoot_as": round(self.judge.worst_overshoot_as, 2),
            "worst_overshoot_a": round(worst.most_a, 2) if worst else 0.0,
            "longest_excess_s": round(self.judge.longest_s, 2),
            "least_trip_margin": round(self.judge.least_margin, 4),
            "tripped": sorted(self.judge.tripped),
        } | self.reactions.figures()

    def _servers(self) -> "list[Broker | ModbusDevice | Cloud | DsoServer]":
        return [*self._brokers.values(), *self.devices.values(), *self.clouds, *self.dsos.values()]

    def _parts(self) -> "list[SimulatedStation | MqttMeter | DsoServer]":
        return [*self.stations.values(), *self.meters.values(), *self.dsos.values()]

    async def _start(self) -> None:
        for server in self._servers():
            await server.start()

    async def _stop(self) -> None:
        for server in reversed(self._servers()):
            await server.stop()
        if self._truth is not None:
            self._truth.close()

    async def _live(self, length_s: float) -> None:
        began_s = time.monotonic()
        lived_s = 0.0
        while lived_s < length_s:
            while lived_s + STEP_S <= time.monotonic() - began_s:
                await self._do_what_is_due()
                self._step(STEP_S)
                lived_s += STEP_S
            await asyncio.sleep(STEP_S / 2)

    def _step(self, dt_s: float) -> None:
        for station in self.stations.values():
            station.update_pilots()
        self.plant.step(dt_s)
        amps = {zone.zone_id: self.plant.zone_current_a(zone.zone_id) for zone in self.site.zones}
        external = self._external(amps)
        self.judge.watch(self.plant.t_s, dt_s, amps, external)
        self.reactions.step()
        if self._truth is not None and self.plant.t_s >= self._truth_due_s - 1e-6:
            self._truth.write(self.plant.t_s, amps, external)
            self._truth_due_s = self.plant.t_s + TRUTH_S

    def _external(self, amps: dict[str, PerPhase]) -> External:
        found: dict[str, PerPhase] = {}
        for section in self.file.external_limits:
            limit = self.dsos[section.id].limit
            if limit is None or section.kind != "import":
                continue
            zone_id = section.zone or self.site.root.zone_id
            bound = external_a(limit, section.unit, amps[zone_id], self.plant.voltage_v)
            tightest = found.get(zone_id, bound)
            found[zone_id] = PerPhase.of(min(a, b) for a, b in zip(bound, tightest, strict=True))
        return found

    def _hear(self, event: str, **data: Any) -> None:
        self.reactions.hear(event, data)
        if event == "station_online" and all(station.link.online for station in self.stations.values()):
            self._all_online.set()
        self._emit(event, **data)

    async def _do_what_is_due(self) -> None:
        while self._steps and self._steps[0].at_s <= self.plant.t_s:
            await self.act(self._steps.pop(0))

    # ---- what can happen ------------------------------------------------------------------------------------------
    async def act(self, step: Step) -> None:
        """Does one thing now.

        Raises:
            ValueError: There is no such thing to do, or no such device.
        """
        if step.caption:
            self._emit("caption", text=step.caption, t_s=round(self.plant.t_s, 1))
        deed = getattr(self, f"do_{step.do}", None)
        if deed is None:
            raise ValueError(f"unknown step {step.do!r}")
        try:
            await deed(**step.data)
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(f"step {step.do!r} with {step.data}: {error!r}") from error

    async def do_say(self) -> None:
        """Nothing but its caption."""

    async def do_plug(self, evse: str, token: str, **kind: Any) -> None:
        """A car arrives; what it is not told is drawn by the seed."""
        station_id, number = evse.rsplit("/", 1)
        most = self.plant.points[evse].evse.phases
        picked = EvType.pick(random.Random(hash_of(self.seed, f"{evse}/{token}")), most)
        known = {name: getattr(picked, name) for name in ("phases", "max_a", "settle_s", "draw", "need_wh")}
        self.stations[station_id].plug(int(number), EvType(**(known | kind)), token)

    async def do_unplug(self, evse: str) -> None:
        """A car leaves."""
        station_id, number = evse.rsplit("/", 1)
        self.stations[station_id].unplug(int(number))

    async def do_load(self, zone: str, power_w: list[float], length_s: float) -> None:
        """A load that is not ours is switched on for a while."""
        self.plant.add_load(zone, PerPhase.of(power_w), length_s)
        self._emit("load_step", zone=zone, t_s=round(self.plant.t_s, 2))

    async def do_worst(self) -> None:
        """Every building draws its worst case from now on."""
        for household in self.plant.households.values():
            household.worst = True

    async def do_inverter(self, name: str, *, running: bool) -> None:
        """An inverter trips or comes back."""
        self.plant.inverters[name].running = running

    async def do_dso(self, limit: float | None, name: str | None = None) -> None:
        """The DSO sets a limit (in the unit of the site file) or releases it."""
        section = next(s for s in self.file.external_limits if name in {None, s.id})
        self.reactions.dso_set(limit)
        self._emit("dso_limit_set", name=section.id, limit=limit)
        await self.dsos[section.id].set_limit(limit)

    async def do_cloud_limit(self, station: str, limit_a: float, evse: int = 1) -> None:
        """The cloud installs a profile at a station."""
        await self.clouds[0].set_limit(station, limit_a, evse)

    async def do_cut(self, what: str, name: str | None = None, *, silent: bool = False) -> None:
        """Cuts a ``device``, a ``station``, the ``cloud`` or the ``dso`` link; ``silent``: it hangs instead."""
        self._emit("cut", what=what, name=name)
        if what == "device" and name in self.devices:
            self.reactions.meter_cut(name)
            await self.devices[name].cut(silent=silent)
        elif what == "device" and name is not None:
            self.reactions.meter_cut(name)
            self.meters[name].muted = True
        elif what == "station" and name is not None:
            self.stations[name].link.cut()
        elif what == "cloud":
            await self.clouds[0].cut()
        elif what == "dso":
            for dso in self.dsos.values():
                await dso.cut()
        else:
            raise ValueError(f"nothing to cut: {what} {name}")

    async def do_restore(self, what: str, name: str | None = None) -> None:
        """Undoes a cut."""
        self._emit("restore", what=what, name=name)
        if what == "device" and name is not None:
            self.reactions.meter_back(name)
        if what == "device" and name in self.devices:
            await self.devices[name].start()
        elif what == "device" and name is not None:
            self.meters[name].muted = False
        elif what == "station" and name is not None:
            self.stations[name].link.restore()
        elif what == "cloud":
            await self.clouds[0].start()
        elif what == "dso":
            for dso in self.dsos.values():
                await dso.restore()
        else:
            raise ValueError(f"nothing to restore: {what} {name}")

    async def do_fast_forward(self, seconds: float, dt_s: float = 0.25) -> None:
        """Lives that long at once: clocks of stations and plant run ahead; for times when nobody is in control."""
        for n in range(round(seconds / dt_s)):
            self._ahead_s += dt_s
            self._step(dt_s)
            if n % 20 == 0:
                await asyncio.sleep(0)
        self._emit("fast_forwarded", t_s=round(self.plant.t_s, 2), **self.summary())


def _dso(limit: ExternalLimit) -> "DsoServer":
    from adapters.simulated.opcua_dso import NAMESPACE, DsoServer  # noqa: PLC0415 - half a second, for sites with a DSO

    return DsoServer(limit.connection.endpoint, limit.nodes, limit.connection.namespace_uri or NAMESPACE)


def _port(url: str) -> int:
    return int(url.split("://", 1)[1].split("/", 1)[0].rsplit(":", 1)[1])
