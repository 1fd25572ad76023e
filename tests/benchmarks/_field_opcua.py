"""OPC UA load of the field benchmark: one server with 500 nodes, those of 50 meters, each changing once a second.

The server (asyncua's, writing all 500 once a second) is a process of its own.
"""

import asyncio
import logging

from asyncua import Server, ua

import adapters
from cem.clock import SystemClock
from cem.config.models import Device

DEVICES = 50
NAMES = ("power_l1_w", "power_l2_w", "power_l3_w", "total_power_w", "current_l1_a", "current_l2_a", "current_l3_a",
         "voltage_l1_v", "voltage_l2_v", "voltage_l3_v")  # fmt: skip
VALUES = (2300.0, 2300.0, 2300.0, 6900.0, 10.0, 10.0, 10.0, 230.0, 230.0, 230.0)
URI = "urn:bench"


async def peer() -> None:
    """Serve until killed; prints the port."""
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)
    server = Server()
    await server.init()
    server.set_endpoint("opc.tcp://127.0.0.1:0/bench")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    index = await server.register_namespace(URI)
    nodes = [
        await server.nodes.objects.add_variable(ua.NodeId(f"{number}.{name}", index), f"{index}:{number}.{name}", value)
        for number in range(DEVICES)
        for name, value in zip(NAMES, VALUES, strict=True)
    ]
    async with server:
        print(server.bserver._server.sockets[0].getsockname()[1], flush=True)
        turn = 0
        while True:
            await asyncio.sleep(1.0)
            turn += 1
            for i, node in enumerate(nodes):
                await node.write_value(VALUES[i % len(NAMES)] * (1 + turn % 10 / 1000))


def _endpoint(ports: list[int]) -> str:
    return f"opc.tcp://127.0.0.1:{ports[0]}/bench"


async def ours(ports: list[int]) -> list:
    """One adapter for the server and all meters."""
    connection = {"kind": "opcua", "endpoint": _endpoint(ports), "namespace_uri": URI}
    devices = [
        Device.model_validate(
            {
                "id": f"u{number}",
                "role": "zone_meter",
                "connection": connection,
                "nodes": {name: {"node": f"s={number}.{name}"} for name in NAMES},
            }
        )
        for number in range(DEVICES)
    ]
    return [adapters.create("opcua", devices[0].connection, devices, SystemClock(), lambda: None)]


async def bare(ports: list[int]) -> None:
    """The same nodes in one subscription by the library alone."""
    from asyncua.client.client import Client

    logging.getLogger("asyncua").setLevel(logging.CRITICAL)
    async with Client(_endpoint(ports), watchdog_intervall=3600.0) as client:
        index = await client.get_namespace_index(URI)
        nodes = [client.get_node(ua.NodeId(f"{number}.{name}", index)) for number in range(DEVICES) for name in NAMES]
        subscription = await client.create_subscription(500, queue_maxsize=4 * len(nodes))
        await subscription.subscribe_data_change(nodes, queuesize=1)
        latest = {}
        async for event in subscription:
            latest[event.node.nodeid] = event.value
