"""The keys of a site file, version 1. The JSON Schema and ``site_configs/README.md`` are made from these."""

from typing import Annotated, Literal

from pydantic import Field

from cem.config.basics import CurrentA, Identifier, Port, PositiveA, PositiveS, PowerW, Section
from cem.config.contact_models import ContactorSection, ContactSection
from cem.config.csms_models import Csms
from cem.config.limit_models import GroupSection, ScheduledLimit
from cem.config.modbus_models import ModbusRtu, ModbusRtuTcp, ModbusTcp, Wallbox
from cem.config.mqtt_models import MqttAvailability, MqttBroker, MqttKeepalive, MqttOut, MqttValue, MqttWrite
from cem.config.names import WriteName
from cem.config.opcua_models import OpcUaServer, OpcUaValue, OpcUaWrite


class GridConnection(Section):
    """The grid connection point."""

    phases: Literal[1, 3] = Field(3, description="Phases of the connection.")
    nominal_voltage_v: float = Field(230, ge=100, le=480, description="Phase to neutral.")
    fuse_a: PositiveA = Field(description="Main fuse per phase.")
    import_limit_w: PowerW | None = Field(None, description="Contract: most power drawn from the grid.")
    export_limit_w: PowerW | None = Field(None, description="Contract: most power fed into the grid.")
    unbalance_a: PositiveA | None = Field(
        None, description="Most difference between two phases; 20 where VDE-AR-N 4100 holds. Left out: any."
    )
    paragraph_14a: bool = Field(
        False, description="The DSO may limit controllable load (§ 14a EnWG): a limit below its minimum is told."
    )


class SiteSection(Section):
    """What the site is."""

    name: str = Field(min_length=1, max_length=80, description="For people, on pages and in reports.")
    time_zone: str = Field("UTC", description="IANA name, for schedules and pages, for example Europe/Berlin.")
    grid_connection: GridConnection = Field(description="Where the site meets the grid.")


class ProtectionSection(Section):
    """The fuse or breaker that feeds a zone."""

    rating_a: PositiveA = Field(description="Rated current per phase.")
    kind: Literal["mcb", "gg", "sls", "cutoff"] = Field(
        "mcb", description="Breaker, gG fuse, selective main switch, or a meter that disconnects."
    )
    curve: Literal["B", "C", "D"] | None = Field(None, description="Trip curve of an mcb (B where left out).")
    guard_a: CurrentA = Field(0, description="Kept free below the rating, for continuous load.")


class ZoneSection(Section):
    """One charging site zone."""

    id: Identifier = Field(description="Name of the zone, used wherever a zone is asked for.")
    parent: Identifier | None = Field(None, description="The zone that feeds this one; left out for the root only.")
    protection: ProtectionSection = Field(description="The fuse or breaker that feeds it.")
    busbar_a: PositiveA | None = Field(None, description="What the busbar carries; lets generation relieve the fuse.")
    import_limit_w: PowerW | None = Field(None, description="Most power drawn into the zone, besides its rating.")
    export_limit_w: PowerW | None = Field(None, description="Most power that leaves the zone.")
    meter: Identifier | None = Field(None, description="Device that measures all current into the zone.")
    fallback_limit_a: CurrentA | None = Field(
        None,
        description="What our EVSEs together may draw per phase while that meter is lost. Needed with a meter; 0 is a proper value.",
    )
    uncontrolled_max_a: CurrentA = Field(
        0, description="Worst-case load per phase in this zone, its children included, that is not ours."
    )
    energy_budget_w: PowerW | None = Field(
        None, description="Most import in the mean of a clock quarter of an hour (contract peaks are measured so)."
    )


ValueName = Literal[
    "current_l1_a", "current_l2_a", "current_l3_a",
    "power_l1_w", "power_l2_w", "power_l3_w", "total_power_w",
    "voltage_l1_v", "voltage_l2_v", "voltage_l3_v",
    "energy_wh", "soc_percent",
]  # fmt: skip
"""Names of measured values, in maps and topics alike. Load convention: import and charging positive."""


class Virtual(Section):
    """No device of its own: worked out from others."""

    kind: Literal["virtual"] = Field(description="Worked out, not read.")
    formulas: tuple[str, ...] = Field(
        min_length=1,
        description="In order of trust, the first that can be worked out counts: names of devices, and `cars`, with + "
        "and -, as `grid - pv - battery - cars`. A name alone: a second meter for the same point.",
    )
    choose: Literal["trust", "vote"] = Field(
        "trust",
        description="trust: the first formula that can be worked out; vote: all measure the same point, the middle one by power "
        "counts, of two the one that draws more.",
    )

    @property
    def line(self) -> tuple[object, ...]:
        """All of them are one adapter."""
        return (self.kind,)


class Device(Section):
    """One meter, inverter or battery in the field."""

    id: Identifier = Field(description="Name of the device, used by zones and in messages.")
    role: Literal["grid_meter", "zone_meter", "household_meter", "pv", "battery"] = Field(
        description="What it is for us; a zone's meter is a grid_meter or zone_meter."
    )
    zone: Identifier | None = Field(
        None, description="Zone that feeds a pv inverter, battery or household meter; root where left out."
    )
    connection: Annotated[
        ModbusTcp | ModbusRtu | ModbusRtuTcp | MqttBroker | OpcUaServer | Virtual, Field(discriminator="kind")
    ] = Field(description="How it is reached.")
    model: Identifier | None = Field(None, description="Modbus: name of a map in adapters/modbus_maps.")
    values: dict[ValueName, MqttValue] = Field(default_factory=dict, description="MQTT: where each value is found.")
    availability: MqttAvailability | None = Field(None, description="MQTT: where its last will is found.")
    keepalive: MqttKeepalive | None = Field(None, description="MQTT: what it wants to hear now and then.")
    nodes: dict[ValueName, OpcUaValue] = Field(default_factory=dict, description="OPC UA: where each value is found.")
    heartbeat: str | None = Field(
        None, description="OPC UA: node of a counter that moves while the device behind the server lives."
    )
    write_topics: dict[WriteName, MqttWrite] = Field(
        default_factory=dict, description="MQTT: what may be set, by the names that maps have for it (`current_a` ...)."
    )
    write_nodes: dict[WriteName, OpcUaWrite] = Field(default_factory=dict, description="OPC UA: likewise.")
    poll_s: PositiveS = Field(1.0, description="Modbus, OPC UA: read period. MQTT: how often a value is expected.")
    phases: Literal[1, 3] = Field(3, description="Phases it measures.")
    phase_order: Literal["L1L2L3", "L2L3L1", "L3L1L2", "L1L3L2", "L3L2L1", "L2L1L3"] = Field(
        "L1L2L3", description="Grid phases on its terminals 1, 2, 3."
    )
    invert: bool = Field(False, description="The device counts export as positive.")
    max_w: PowerW | None = Field(None, description="Nameplate power of a pv inverter or battery.")
    control: bool = Field(
        False,
        description="A pv inverter or battery is commanded: curtailed, held, bounded as the limits ask. Left "
        "out: what it may do is only shown.",
    )


class EvseSection(Section):
    """One EVSE of a station."""

    id: int = Field(1, ge=1, le=99, description="OCPP 2.x evseId, OCPP 1.6 connectorId.")
    min_a: CurrentA = Field(6, description="IEC 61851-1: at least 6 A.")
    max_a: PositiveA = Field(32, description="Most current per phase it can draw.")
    phases: Literal[1, 2, 3] = Field(3, description="Phases wired.")
    rotation: Literal["RST", "RTS", "SRT", "STR", "TRS", "TSR", "L1", "L2", "L3", "unknown"] = Field(
        "unknown",
        description="Grid phases on the EVSE's terminals; L1 to L3 for single-phase; unknown counts on every phase.",
    )
    phase_switching: bool = Field(False, description="The station can charge on one phase of three, on command.")
    dc: bool = Field(False, description="A DC outlet; its currents are those of its AC input.")
    efficiency: float = Field(0.94, gt=0.5, le=1, description="Of a DC outlet: output over AC input.")
    max_w: PowerW | None = Field(None, description="Of a DC outlet: its most output; lowers max_a.")
    discharge_a: CurrentA = Field(0, description="Most current per phase that a car may feed back; 0: none does.")
    step_a: float = Field(
        1, gt=0, le=16, description="Steps it can be set in: 8 where it takes 8, 16, 24 and 32 A alone."
    )


class StationSection(Section):
    """One charging station."""

    id: Identifier = Field(description="OCPP identity: the last part of the address it dials.")
    kind: Literal["station", "site"] = Field(
        "station",
        description="A site: another of our controllers (or what behaves so) with own_identity here as its upstream. It is one "
        "EVSE, its connection, held by its maximum alone.",
    )
    carries: tuple[Identifier, ...] = Field(
        default=(),
        max_length=1000,
        description="Of a site: its stations, whose connections pass through to our primary upstream, with the site's password.",
    )
    zone: Identifier = Field(description="The zone that feeds it.")
    breaker_a: PositiveA = Field(
        description="Breaker of the station per phase; where several EVSEs share it, it is held like a zone."
    )
    fallback_a: CurrentA = Field(
        0, description="What each of its EVSEs falls back to by itself when we are gone; 0 allowed."
    )
    priority: int = Field(0, ge=0, le=9, description="Strict classes, higher first.")
    weight: float = Field(1.0, gt=0, le=100, description="Share inside its priority class.")
    mode: Literal["fast", "min_surplus", "surplus", "off"] = Field(
        "fast",
        description="What its EVSEs charge from until somebody wishes otherwise: all that limits allow, the minimum "
        "and surplus, surplus alone, or nothing. Surplus needs a meter at the root zone.",
    )
    cloud_profiles: Literal["kept_here", "end_to_end"] = Field(
        "kept_here",
        description="The upstream's charging profiles: kept_here, and the station gets the lower of both limits; or end_to_end, "
        "for one EVSE: they reach the station under a maximum of ours, which is a slower limit.",
    )
    assume_subprotocol: Literal["ocpp1.6", "ocpp2.0.1", "ocpp2.1"] | None = Field(
        None,
        description="The version of OCPP it speaks, for a station whose websocket handshake names none. Left out: such a "
        "station is refused, as the standard has it.",
    )
    modbus: Wallbox | None = Field(None, description="Commanded by Modbus; left out: by OCPP, which it dials.")
    password: str | None = Field(None, description="OCPP security profile 1/2; give it by !secret or !env.")
    security_profile: Literal[0, 1, 2, 3] | None = Field(
        None,
        description="OCPP security profile that is demanded: 0 nothing, 1 password, 2 password over TLS, 3 TLS with the "
        "station's own certificate. Left out: as csms says, else its password, where it has one.",
    )
    evses: tuple[EvseSection, ...] = Field(
        default=(EvseSection(),), min_length=1, description="Its EVSEs; left out: one, of three phases and 32 A."
    )

    def number_of(self, evse: EvseSection) -> int:
        """OCPP's number of an EVSE: 0 is all that is behind a station, so the whole of a site."""
        return 0 if self.kind == "site" else evse.id


class OpcUaLimitNodes(Section):
    """Nodes of one limit: NodeIds (``i=``, ``s=`` ... with or without ns) or browse paths (``Objects/DSO/Limit``)."""

    limit: str = Field(min_length=1, description="The limit's value.")
    enabled: str | None = Field(None, description="True while the limit holds; left out: it always holds.")
    heartbeat: str | None = Field(None, description="A counter that moves while the other side lives.")


class ExternalLimit(Section):
    """A limit that somebody outside sets: the DSO, an aggregator."""

    id: Identifier = Field(description="Name of the limit, shown as the source of what it binds.")
    kind: Literal["import", "export", "load", "generation"] = Field(
        "import", description="What it bounds: power from or to the grid, controllable load, or generation."
    )
    zone: Identifier | None = Field(None, description="Root where left out.")
    connection: OpcUaServer = Field(description="How it is reached.")
    nodes: OpcUaLimitNodes = Field(description="Which nodes to read.")
    unit: Literal["W", "kW", "A"] = Field("W", description="A is per phase.")
    failsafe_w: PowerW | None = Field(None, description="In force without contact (with unit W or kW).")
    failsafe_a: CurrentA | None = Field(None, description="In force without contact, per phase (with unit A).")
    failsafe_duration_s: float = Field(7200, ge=7200, le=86_400, description="2 to 24 h.")
    after_failsafe: Literal["hold", "release"] = Field(
        "hold", description="When that time is over: keep the failsafe value, or go without a limit."
    )
    heartbeat_timeout_s: float = Field(
        120, ge=3, le=3600, description="Without a sign of life for this long: failsafe."
    )
    settle_s: float = Field(120, ge=1, le=3600, description="After contact, how long to wait for a first write.")
    release_ramp_s: float = Field(300, ge=0, le=3600, description="A released limit rises linearly over this time.")


class Surplus(Section):
    """When cars in mode surplus start and stop. Surplus is what would be exported if they drew nothing."""

    start_w: PowerW | None = Field(None, description="Needed to start; left out: what the minimum takes, and 200 W.")
    stop_w: PowerW | None = Field(None, description="Below this they stop; left out: what the minimum takes.")
    start_delay_s: float = Field(60, ge=0, le=3600, description="For so long before a start.")
    stop_delay_s: float = Field(
        60, ge=0, le=3600, description="For so long before a stop; until then the grid tops up the minimum."
    )


class BatteryControl(Section):
    """What batteries do beside the cars."""

    first_below_soc_percent: float = Field(
        100, ge=0, le=100, description="Below this charge a battery takes surplus before cars: 100 always, 0 never."
    )
    reserve_soc_percent: float = Field(0, ge=0, le=100, description="Below this charge it gives nothing.")
    hold_while_fast: bool = Field(
        False, description="While a car charges fast, a battery gives no more than the rest of the site draws."
    )


class Control(Section):
    """How the control loop moves, and what cars and batteries charge from."""

    cycle_s: float = Field(1.0, ge=0.2, le=10, description="Period of the control loop.")
    raise_interval_s: float = Field(5.0, ge=1, le=300, description="At least this long between two raises of one EVSE.")
    raise_rate_a_per_s: float = Field(4.0, gt=0, le=32, description="Fastest rise of one EVSE, in A per second.")
    hold_off_s: float = Field(
        30.0, ge=3, le=600, description="A meter that came back is trusted for raises after this."
    )
    peak_hold_s: float = Field(
        15.0, ge=10, le=300, description="Headroom rises only after other load stayed low this long."
    )
    min_off_s: float = Field(120.0, ge=0, le=1800, description="A paused car stays paused at least this long.")
    rotation_s: float = Field(
        900.0,
        ge=60,
        le=14_400,
        description="Where not all cars fit at once, a car makes way for a waiting one after this.",
    )
    reaction_s: float = Field(
        10.0, ge=1, le=120, description="A cut counts as obeyed after this where the EVSE is not measured."
    )
    policy: Literal["fair", "throughput"] = Field(
        "fair",
        description="What room there is goes to all by weight and urgency, or where it makes the most energy now.",
    )
    surplus: Surplus = Field(Surplus(), description="When cars in mode surplus start and stop.")
    battery: BatteryControl = Field(BatteryControl(), description="What batteries do beside the cars.")


class Storage(Section):
    """Where records are kept."""

    directory: str = Field("var", description="Relative to the site file.")
    history_days: int = Field(90, ge=1, le=3650, description="Older history is deleted; sessions are kept.")
    replay_mb: int = Field(
        256, ge=0, le=100_000, description="Room for recorded control cycles (cem replay), in MB; 0 records none."
    )


class Web(Section):
    """HTTP API and pages."""

    host: str = Field("127.0.0.1", description="Address to listen on; 127.0.0.1 is this machine only.")
    port: Port = Field(8080, description="TCP port.")
    allow_control: bool | None = Field(
        None,
        description="Whether modes and targets can be set over the API, which has no login; left out: only where host "
        "is this machine alone.",
    )


class SiteFile(Section):
    """A whole site file."""

    version: Literal[1] = Field(description="Version of this format.")
    site: SiteSection = Field(description="What the site is.")
    zones: tuple[ZoneSection, ...] = Field(min_length=1, description="The tree of fuses; exactly one has no parent.")
    devices: tuple[Device, ...] = Field((), description="Meters, inverters, batteries.")
    stations: tuple[StationSection, ...] = Field((), description="Charging stations; others get no rights.")
    csms: Csms = Field(Csms(), description="The local CSMS, which the stations dial.")
    external_limits: tuple[ExternalLimit, ...] = Field((), description="Limits set by the DSO or others.")
    scheduled_limits: tuple[ScheduledLimit, ...] = Field((), description="Limits by the clock.")
    groups: tuple[GroupSection, ...] = Field((), description="Limits that cut across the zones.")
    contacts: tuple[ContactSection, ...] = Field(
        (), description="Digital inputs: load shedding, island, ripple control."
    )
    contactors: tuple[ContactorSection, ...] = Field((), description="Contactors that stations are fed by.")
    mqtt_out: MqttOut | None = Field(None, description="What is published by MQTT, and commands from there.")
    control: Control = Field(Control(), description="Timings; the defaults suit most sites.")
    storage: Storage = Field(Storage(), description="Where records are kept.")
    web: Web = Field(Web(), description="HTTP API and pages.")
