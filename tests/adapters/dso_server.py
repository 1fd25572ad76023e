"""A DSO's OPC UA server (asyncua), in the test's loop or as a process of its own that can be stopped and killed."""

import asyncio
import logging
import signal
import subprocess
import sys
from typing import Self

from asyncua import Server, ua

URI = "urn:test:dso"


class DsoServer:
    """Objects/DSO with ImportLimit, Enabled and Heartbeat, in a namespace whose index depends on ``before``."""

    def __init__(self, port: int = 0, *, before: int = 0) -> None:
        self.port = port
        self._before = before

    async def __aenter__(self) -> Self:
        logging.getLogger("asyncua").setLevel(logging.CRITICAL)
        self._server = Server()
        await self._server.init()
        self._server.set_endpoint(f"opc.tcp://127.0.0.1:{self.port}/dso")
        self._server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        for number in range(self._before):
            await self._server.register_namespace(f"urn:test:other:{number}")
        index = await self._server.register_namespace(URI)
        folder = await self._server.nodes.objects.add_object(index, "DSO")
        self.limit = await folder.add_variable(
            ua.NodeId("Limit", index), f"{index}:ImportLimit", 20.0, ua.VariantType.Double
        )
        self.enabled = await folder.add_variable(ua.NodeId(7, index), f"{index}:Enabled", False)
        self.heartbeat = await folder.add_variable(
            ua.NodeId("Beat", index), f"{index}:Heartbeat", 0, ua.VariantType.UInt32
        )
        await self._server.start()
        self.port = self._server.bserver._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop()

    async def beat(self, count: int) -> None:
        await self.heartbeat.write_value(count, ua.VariantType.UInt32)


class DsoProcess:
    """The same in a process of its own; enabled, with a beating heart."""

    def __init__(self, port: int = 0) -> None:
        self._process = subprocess.Popen([sys.executable, __file__, str(port)], stdout=subprocess.PIPE, text=True)
        self.port = int(self._process.stdout.readline())

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


async def _main() -> None:
    async with DsoServer(int(sys.argv[1])) as server:
        await server.enabled.write_value(True)
        print(server.port, flush=True)
        beat = 0
        while True:
            await asyncio.sleep(0.1)
            beat += 1
            await server.beat(beat)


if __name__ == "__main__":
    asyncio.run(_main())
