"""A DSO's OPC UA server (asyncua) as a process of its own: commanded, stopped, killed.

One server costs seconds of computing to start, so tests share one and set it by commands.
"""

import asyncio
import logging
import sys

from asyncua import Server, ua
from asyncua.server.monitored_item_service import MonitoredItemService

from tests.adapters.child import Child

URI = "urn:test:dso"


class DsoProcess(Child):
    """Objects/DSO with ImportLimit (s=Limit), Enabled (i=7) and Heartbeat (s=Beat, ten beats a second); Objects/Meter with
    L1, L2, L3 and Total in W.

    Told ``limit NUMBER``, ``bad``, ``enabled 0|1``, ``beat 0|1``; ``L1 W``, ``Total W`` ...; of subscriptions ``subscriptions
    MOST``, ``forget`` (all there are, without a word) and ``sampling SECONDS`` (what it makes of any wish).

    Args:
        port: 0 for a free one.
        before: Namespaces registered before ours, so that its index differs.
    """

    def __init__(self, port: int = 0, *, before: int = 0) -> None:
        super().__init__("tests.adapters.dso_server", port, before)


class _Dso:
    def __init__(self) -> None:
        self.beats = True

    async def serve(self, port: int, before: int) -> None:
        logging.getLogger("asyncua").setLevel(logging.CRITICAL)
        server = Server()
        await server.init()
        server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/dso")
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        for number in range(before):
            await server.register_namespace(f"urn:test:other:{number}")
        index = await server.register_namespace(URI)
        folder = await server.nodes.objects.add_object(index, "DSO")
        self._limit = await folder.add_variable(
            ua.NodeId("Limit", index), f"{index}:ImportLimit", 20.0, ua.VariantType.Double
        )
        self._enabled = await folder.add_variable(ua.NodeId(7, index), f"{index}:Enabled", True)
        heartbeat = await folder.add_variable(ua.NodeId("Beat", index), f"{index}:Heartbeat", 0, ua.VariantType.UInt32)
        meter = await server.nodes.objects.add_object(index, "Meter")
        powers = {"L1": 100.0, "L2": 200.0, "L3": 300.0, "Total": 600.0}
        self._meter = {name: await meter.add_variable(index, name, value) for name, value in powers.items()}
        self._internal = server.iserver
        async with server:
            print(server.bserver._server.sockets[0].getsockname()[1], flush=True)
            commands = asyncio.create_task(self._obey())
            beat = 0
            while not commands.done():
                await asyncio.sleep(0.1)
                beat += self.beats
                await heartbeat.write_value(beat, ua.VariantType.UInt32)

    async def _obey(self) -> None:
        while line := await asyncio.to_thread(sys.stdin.readline):
            word, *rest = line.split()
            match word:
                case "limit":
                    await self._limit.write_value(float(rest[0]))
                case "bad":
                    failure = ua.StatusCode(ua.StatusCodes.BadSensorFailure)
                    await self._limit.write_value(ua.DataValue(ua.Variant(20.0, ua.VariantType.Double), failure))
                case "enabled":
                    await self._enabled.write_value(rest[0] == "1")
                case "beat":
                    self.beats = rest[0] == "1"
                case "subscriptions":
                    self._internal.max_subscriptions = int(rest[0])
                case "forget":
                    service = self._internal.subscription_service
                    await service.delete_subscriptions(list(service.subscriptions))
                case "sampling":
                    self._revise_sampling(float(rest[0]))
                case name:
                    await self._meter[name].write_value(float(rest[0]))
            print("done", flush=True)

    def _revise_sampling(self, seconds: float) -> None:
        make = MonitoredItemService._make_monitored_item_common

        def slow(service, wish):
            result, data = make(service, wish)
            result.RevisedSamplingInterval = seconds * 1000
            return result, data

        MonitoredItemService._make_monitored_item_common = slow


if __name__ == "__main__":
    asyncio.run(_Dso().serve(int(sys.argv[1]), int(sys.argv[2])))
