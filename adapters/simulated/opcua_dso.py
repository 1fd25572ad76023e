"""A DSO's OPC UA server: an import limit, its enable flag and a heartbeat counter."""

import asyncio
import logging
from urllib.parse import urlsplit

from asyncua import Node, Server, ua

from cem.config.models import OpcUaLimitNodes

NAMESPACE = "urn:cem:dso"
NODES = OpcUaLimitNodes(
    limit="Objects/DSO/ImportLimit", enabled="Objects/DSO/Enabled", heartbeat="Objects/DSO/Heartbeat"
)


class DsoServer:
    """Variables of one limit: the value (Double), its flag (Boolean) and a heartbeat (UInt32, one more each second).

    Attributes:
        limit: The limit at its source now, in the unit the site file gives; ``None`` while it is not enabled.

    Args:
        endpoint: Where it listens, as the site file says.
        nodes: Browse paths of its variables; a path may begin with ``Objects``.
        namespace: Their namespace.
        initial: What the limit's variable holds while the limit was never set.
    """

    def __init__(
        self, endpoint: str, nodes: OpcUaLimitNodes = NODES, namespace: str = NAMESPACE, initial: float = 0.0
    ) -> None:
        self.endpoint = endpoint
        self.limit: float | None = None
        self._nodes, self._namespace, self._initial = nodes, namespace, initial
        self._server: Server | None = None
        self._listening = False
        self._beat = 0
        self._enabled: Node | None = None
        self._heartbeat: Node | None = None

    async def start(self) -> None:
        """Begins to listen; takes about two seconds of computing."""
        logging.getLogger("asyncua").setLevel(logging.ERROR)  # it warns of its own defaults at every start
        self._server = Server()
        await self._server.init()
        self._server.set_endpoint(self.endpoint)
        self._server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        self._index = await self._server.register_namespace(self._namespace)
        self._limit = await self._add(self._nodes.limit, self._initial, ua.VariantType.Double)
        if self._nodes.enabled:
            self._enabled = await self._add(self._nodes.enabled, False, ua.VariantType.Boolean)
        if self._nodes.heartbeat:
            self._heartbeat = await self._add(self._nodes.heartbeat, 0, ua.VariantType.UInt32)
        await self._server.start()
        self._listening = True

    async def stop(self) -> None:
        """Ends for good."""
        if self._server is not None:
            server, self._server, self._listening = self._server, None, False
            await server.stop()

    async def cut(self) -> None:
        """The link is cut: connections end and new ones are refused. The DSO's own values go on."""
        if self._listening and self._server is not None and self._server.bserver is not None:
            self._listening = False
            await self._server.bserver.stop()

    async def restore(self) -> None:
        """The link is back."""
        if not self._listening and self._server is not None and self._server.bserver is not None:
            await self._server.bserver.start()
            self._listening = True

    async def set_limit(self, limit: float | None) -> None:
        """Writes a limit and enables it; ``None`` releases."""
        self.limit = limit
        if limit is not None:
            await self._limit.write_value(limit, ua.VariantType.Double)
        if self._enabled is not None:
            await self._enabled.write_value(limit is not None, ua.VariantType.Boolean)

    async def run(self) -> None:
        """Beats until cancelled."""
        while True:
            await asyncio.sleep(1.0)
            self._beat += 1
            if self._heartbeat is not None:
                await self._heartbeat.write_value(self._beat, ua.VariantType.UInt32)

    async def _add(self, path: str, value: float | bool, kind: ua.VariantType) -> Node:
        if self._server is None:
            raise RuntimeError("the DSO's server is not up")
        node = self._server.nodes.objects
        *folders, name = [part for part in path.split("/") if part not in {"", "Objects"}]
        for folder in folders:
            try:
                node = await node.get_child([f"{self._index}:{folder}"])
            except ua.UaStatusCodeError:
                node = await node.add_object(self._index, folder)
        return await node.add_variable(self._index, name, value, kind)


def port_of(endpoint: str) -> int:
    """TCP port of an endpoint (4840 where it names none)."""
    return urlsplit(endpoint).port or 4840
