"""Frames as odd as JSON allows through real sockets on both sides: what comes out is what went in, byte for byte."""

import asyncio
import contextlib
import itertools
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

from tests.adapters.ocpp_peers import free_port, local_csms, stamp
from tests.csms.odd_frames import HERE, answer, call, payload

SUBPROTOCOLS = ["ocpp1.6", "ocpp2.0.1", "ocpp2.1"]
EXAMPLES = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
UP = st.sampled_from(["DataTransfer", "StatusNotification", "NotifyEvent", "SecurityEventNotification"])
DOWN = st.sampled_from(["GetConfiguration", "GetVariables", "ReserveNow", "UnlockConnector", "CostUpdated"])
GIVEN = 5_550_123


class Wire:
    """Both outer ends, as text."""

    def __init__(self):
        self.at_cloud, self.at_station = asyncio.Queue(), asyncio.Queue()
        self.cloud = self.station = None
        self.counter = itertools.count(10_000)  # of one length: what is drawn depends on it
        self.transaction = None

    async def serve_cloud(self, socket):
        self.cloud = socket
        async for text in socket:
            await self.at_cloud.put(text)

    async def serve_station(self, socket):
        self.station = socket
        async for text in socket:
            message = json.loads(text)
            if message[0] == 2 and not message[1].startswith("odd-"):  # the controller's own
                await socket.send(json.dumps([3, message[1], {"status": "Accepted"}]))
            else:
                await self.at_station.put(text)

    @staticmethod
    async def next(queue):
        return await asyncio.wait_for(queue.get(), 10)

    async def round_trip(self, action, body, told):
        """A call of the station that the cloud answers."""
        await self.station.send(json.dumps([2, f"odd-{next(self.counter)}", action, body]))
        message = json.loads(await self.next(self.at_cloud))
        await self.cloud.send(json.dumps([3, message[1], told]))
        return json.loads(await self.next(self.at_station))[2]


@contextlib.asynccontextmanager
async def wired(subprotocol):
    """A station that the cloud has accepted; in 1.6 with a transaction that the cloud knows by another id."""
    wire, port = Wire(), free_port()
    async with contextlib.AsyncExitStack() as stack:
        local = await stack.enter_async_context(
            local_csms(upstream=f"ws://127.0.0.1:{port}", offline_authorization="accept")
        )
        address = f"{local.address}/S1"
        socket = await stack.enter_async_context(connect(address, subprotocols=[subprotocol], proxy=None))
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        reading = tasks.create_task(wire.serve_station(socket))
        if subprotocol == "ocpp1.6":
            start = {"connectorId": 1, "idTag": "TAG", "meterStart": 5, "timestamp": stamp()}
            await socket.send(json.dumps([2, "start", "StartTransaction", start]))
            wire.transaction = json.loads(await wire.next(wire.at_station))[2]["transactionId"]
        server = serve(wire.serve_cloud, "127.0.0.1", port, subprotocols=[subprotocol])
        await stack.enter_async_context(server)
        if subprotocol == "ocpp1.6":
            message = json.loads(await asyncio.wait_for(wire.at_cloud.get(), 15))
            assert message[2] == "StartTransaction"
            told = {"transactionId": GIVEN, "idTagInfo": {"status": "Accepted"}}
            await wire.cloud.send(json.dumps([3, message[1], told]))
            await asyncio.sleep(0.3)
        else:
            async with asyncio.timeout(15):
                while wire.cloud is None:
                    await asyncio.sleep(0.02)
        yield wire
        reading.cancel()


@pytest.fixture(params=SUBPROTOCOLS)
def line(request):
    """A loop that goes on through all examples of one test, with a wire on it."""
    with asyncio.Runner() as runner:
        around = wired(request.param)
        wire = runner.run(around.__aenter__())
        yield runner, wire, request.param
        runner.run(around.__aexit__(None, None, None))


def exchanged(line, text, told, *, up):
    """What comes out at the other end for a CALL, and what comes back for its answer."""
    runner, wire, _ = line

    async def exchange():
        here, there = (wire.station, wire.cloud) if up else (wire.cloud, wire.station)
        at_there, at_here = (wire.at_cloud, wire.at_station) if up else (wire.at_station, wire.at_cloud)
        await here.send(text)
        arrived = await wire.next(at_there)
        await there.send(told)
        return arrived, await wire.next(at_here)

    return runner.run(exchange())


def test_every_byte_passes_through_real_sockets_in_both_directions(line):
    @EXAMPLES
    @given(st.data(), st.booleans())
    def examples(data, up):
        number = next(line[1].counter)
        message_id, unlike_any_before = f"odd-{number}", ('"n"', str(number))
        body = data.draw(payload(fixed=[unlike_any_before]))
        text = call(data.draw, data.draw(UP if up else DOWN), body, message_id)
        told = answer(data.draw, data.draw(payload()), message_id)
        assert exchanged(line, text, told, up=up) == (text, told)

    examples()


@pytest.mark.parametrize("line", ["ocpp1.6"], indirect=True)
def test_the_id_of_a_mapped_transaction_alone_changes_on_real_sockets(line):
    tx = str(line[1].transaction)

    @EXAMPLES
    @given(st.data(), st.booleans())
    def examples(data, up):
        number = next(line[1].counter)
        named = ('"transactionId"', HERE)
        if up:
            values = ('"meterValue"', f'[{{"n":{number},"timestamp":"2026-11-22T10:00:00Z","sampledValue":[]}}]')
            body = data.draw(payload(fixed=[named, ('"connectorId"', "1"), values]))
        else:
            body = data.draw(payload(fixed=[named]))
        text = call(data.draw, "MeterValues" if up else "RemoteStopTransaction", body, f"odd-{number}")
        told = answer(data.draw, data.draw(payload()), f"odd-{number}")
        here, there = (tx, str(GIVEN)) if up else (str(GIVEN), tx)
        assert exchanged(line, text.replace(HERE, here), told, up=up) == (text.replace(HERE, there), told)

    examples()
