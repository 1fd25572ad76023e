"""A DSO's OPC UA server: an import limit, its enable flag and a heartbeat counter."""

import asyncio
import logging

from asyncua import Server, ua

NAMESPACE = "urn:cem:dso"


class DsoServer:
    """Objects/DSO with ImportLimit (Double), Enabled (Boolean) and Heartbeat (UInt32, one more each second).

    Attributes:
        limit: The limit at its source now, in the unit the site file gives; ``None`` while it is not enabled.
    """

    def __init__(self, port: int, path: str = "/dso", initial: float = 0.0) -> None:
        self.port = port
        self.limit: float | None = None
        self._path, self._initial = path, initial
        self._server: Server | None = None
        self._beat = 0

    @property
    def endpoint(self) -> str:
        """Where clients find it."""
        return f"opc.tcp://127.0.0.1:{self.port}{self._path}"

    async def start(self) -> None:
        """Begins to listen (again), with the values as they stand."""
        if self._server is not None:
            return
        logging.getLogger("asyncua").setLevel(logging.ERROR)  # it warns of its own defaults at every start
        server = Server()
        await server.init()
        server.set_endpoint(self.endpoint)
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        index = await server.register_namespace(NAMESPACE)
        folder = await server.nodes.objects.add_object(index, "DSO")
        limit = self._initial if self.limit is None else self.limit
        self._limit = await folder.add_variable(index, "ImportLimit", limit, ua.VariantType.Double)
        self._enabled = await folder.add_variable(index, "Enabled", self.limit is not None, ua.VariantType.Boolean)
        self._heartbeat = await folder.add_variable(index, "Heartbeat", self._beat, ua.VariantType.UInt32)
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Ends all connections and stops to listen: the link is cut."""
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop()

    async def set_limit(self, limit: float | None) -> None:
        """Writes a limit and enables it; ``None`` releases."""
        self.limit = limit
        if self._server is None:
            return
        if limit is not None:
            await self._limit.write_value(limit, ua.VariantType.Double)
        await self._enabled.write_value(limit is not None, ua.VariantType.Boolean)

    async def run(self) -> None:
        """Beats until cancelled."""
        while True:
            await asyncio.sleep(1.0)
            self._beat += 1
            if self._server is not None:
                await self._heartbeat.write_value(self._beat, ua.VariantType.UInt32)
