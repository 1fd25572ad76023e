"""Store and forward over real websockets: a disk that takes nothing, a second CSMS, the real ledger under a restart."""

import asyncio
import contextlib
import json

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

from cem.config.csms_models import Upstream
from cem.csms.records import JournalEntry
from cem.errors import CemError
from cem.store import Store
from tests.adapters.ocpp_peers import Station16, Station201, cloud, local_csms, stamp, station, until
from tests.csms.test_csms_ledger import answer_of_cloud
from tests.fakes import MemoryStore

NOWHERE = "ws://127.0.0.1:1/cloud"


class Plain:
    """A station that asks what it wants and answers nothing."""

    def __init__(self, ws):
        self.ws = ws
        self.answers = {}
        self.count = 0

    async def read(self):
        async for text in self.ws:
            message = json.loads(text)
            if message[0] == 3:
                self.answers[message[1]] = message[2]

    async def ask(self, action, payload, timeout_s=3.0):
        self.count += 1
        message_id = str(self.count)
        await self.ws.send(json.dumps([2, message_id, action, payload]))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while message_id not in self.answers:
                    await asyncio.sleep(0.01)
        return self.answers.get(message_id)


@contextlib.asynccontextmanager
async def plain(address, name="S1"):
    async with connect(f"{address}/{name}", subprotocols=["ocpp1.6"], proxy=None) as ws:
        peer = Plain(ws)
        task = asyncio.create_task(peer.read())
        try:
            yield peer
        finally:
            task.cancel()


async def test_l6_on_a_full_disk_a_start_is_not_acknowledged_and_nothing_else_stops():
    store = MemoryStore()
    async with (
        local_csms(upstream=NOWHERE, offline_authorization="accept", store=store) as local,
        plain(local.address) as peer,
    ):
        boot = {"chargePointVendor": "V", "chargePointModel": "M"}
        assert (await peer.ask("BootNotification", boot, 8))["status"] == "Accepted"
        store.broken = True
        start = {"connectorId": 1, "idTag": "TAG", "meterStart": 5, "timestamp": stamp()}
        assert await peer.ask("StartTransaction", start, 0.5) is None
        assert await peer.ask("StartTransaction", start, 0.5) is None, "not by a repeat either"
        assert (await peer.ask("Heartbeat", {}))["currentTime"]
        assert (await peer.ask("Authorize", {"idTag": "TAG"}))["idTagInfo"]["status"] == "Accepted"
        assert local.codes().count("records_unwritable") == 1
        store.broken = False
        answer = await peer.ask("StartTransaction", start)
        entries = [r for r in store.records if isinstance(r, JournalEntry)]
        assert [(e.kind, e.local_id) for e in entries] == [("start", str(answer["transactionId"]))]
        assert [s.kind for s in store.sessions()] == ["start"]


async def test_l6_what_could_not_be_written_is_written_when_there_is_room_again():
    store = MemoryStore()
    async with (
        local_csms(upstream=NOWHERE, offline_authorization="accept", store=store) as local,
        plain(local.address) as peer,
    ):
        await peer.ask("BootNotification", {"chargePointVendor": "V", "chargePointModel": "M"}, 8)
        store.broken = True
        start = {"connectorId": 1, "idTag": "TAG", "meterStart": 5, "timestamp": stamp()}
        assert await peer.ask("StartTransaction", start, 0.3) is None
        store.broken = False
        await until(lambda: any(isinstance(r, JournalEntry) for r in store.records), 8)


async def test_l6_while_nothing_can_be_written_boots_are_answered_and_cuts_go_out_at_once():
    store = MemoryStore()
    async with (
        local_csms(upstream=NOWHERE, offline_authorization="accept", store=store) as local,
        station(Station201, local.address) as peer,
    ):
        await peer.boot()
        await peer.start()
        local.apply(S1=16.0)
        await until(lambda: peer.seen.has("TxProfile", 16.0))
        store.broken = True
        assert await peer.boot() == "Accepted"
        values = asyncio.create_task(peer.meter(15.0, 15.0, 15.0))  # is not answered, and holds up nothing
        local.apply(S1=10.0)
        await until(lambda: peer.seen.has("TxProfile", 10.0))
        assert not values.done()
        values.cancel()


@contextlib.asynccontextmanager
async def deaf_cloud(never):
    """A CSMS that answers everything but what ``never`` says; gives its address and what it was told."""
    told = []

    async def talk(ws):
        async for text in ws:
            message = json.loads(text)
            if message[0] == 2:
                told.append(message)
                if not never(message):
                    await ws.send(json.dumps([3, message[1], answer_of_cloud(message)]))

    async with serve(talk, "127.0.0.1", 0, subprotocols=["ocpp1.6", "ocpp2.0.1"]) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", told


async def test_the_operator_sets_a_message_aside_that_the_cloud_never_answers_and_has_it_told_again(tmp_path):
    store = Store(tmp_path / "var")
    deaf = True
    try:
        async with (
            local_csms(upstream=NOWHERE, offline_authorization="accept", store=store) as local,
            plain(local.address) as peer,
        ):
            await peer.ask("BootNotification", {"chargePointVendor": "V", "chargePointModel": "M"}, 8)
            for meter in (1, 2):
                start = {"connectorId": 1, "idTag": "TAG", "meterStart": meter, "timestamp": stamp()}
                tx = (await peer.ask("StartTransaction", start))["transactionId"]
                await peer.ask("StopTransaction", {"transactionId": tx, "meterStop": 9, "timestamp": stamp()})
        async with (
            deaf_cloud(lambda message: deaf and message[3].get("meterStart") == 1) as (address, told),
            local_csms(upstream=address, store=store) as local,
        ):
            await until(lambda: [m for m in told if m[2] == "StartTransaction"])
            queues = local.server.queues
            with pytest.raises(CemError, match="there is no station S9"):
                await queues.set_aside("S9")
            with pytest.raises(CemError, match="no message 99 of S1 waits for cloud"):
                await queues.set_aside("S1", "cloud", 99)
            assert await queues.set_aside("S1") == {
                "station_id": "S1", "upstream_id": "cloud", "seq": 1, "action": "StartTransaction",
            }  # fmt: skip
            await until(lambda: len(store.queue()) == 2)
            assert [m[2] for m in told] == ["StartTransaction", "StartTransaction", "StopTransaction"]
            assert [(e.state, e.why) for e in store.queue()] == [("refused", "by command")] * 2
            deaf = False
            assert await queues.retry("S1") == 2
            await until(lambda: store.queue() == ())
            assert [m[2] for m in told[3:]] == ["StartTransaction", "StopTransaction"]
            assert await queues.retry() == 0
    finally:
        store.close()


async def test_two_csms_each_under_its_own_id():
    async with cloud() as sky, cloud() as second:
        second.book.next_id = 90_000
        observer = Upstream(id="refund", url=second.url, role="observer")
        async with (
            local_csms(upstream=sky.url, observers=[observer]) as local,
            station(Station16, local.address) as peer,
        ):
            await peer.boot()
            await until(lambda: second.count("BootNotification") == 1)
            await peer.start()
            await peer.stop()
            await until(lambda: second.count("StopTransaction") == 1)
            assert peer.transaction == sky.messages("StartTransaction")[0]["given"]
            given = second.messages("StartTransaction")[0]["given"]
            assert second.messages("StopTransaction")[0]["transaction_id"] == given != peer.transaction
            status = local.server.status()
            assert [o["id"] for o in status["observers"]] == ["refund"]
            await second.stop()
            await until(lambda: [e.subject for e in local.events if e.code == "csms_lost"] == ["refund"])
            assert not local.server.status()["upstream"]["lost"]


async def test_c2_the_real_ledger_brings_an_outage_through_a_restart(tmp_path):
    store = Store(tmp_path / "var")
    async with (
        local_csms(upstream=NOWHERE, offline_authorization="accept", store=store) as local,
        station(Station201, local.address) as peer,
    ):
        await peer.boot()
        await peer.start()
        await peer.meter(11.0, 11.0, 11.0)
        await peer.stop()
        assert [e.kind for e in store.queue()] == ["start", "update", "stop"]
    store.close()
    store = Store(tmp_path / "var")
    try:
        async with cloud() as sky, local_csms(upstream=sky.url, store=store) as local:
            await until(lambda: sky.count("TransactionEvent") == 3)
            assert [e["event_type"] for e in sky.messages("TransactionEvent")] == ["Started", "Updated", "Ended"]
            await until(lambda: store.queue() == ())
            await until(lambda: local.server.status()["upstream"]["uplinks"] == 0)
    finally:
        store.close()


async def test_an_upstream_that_wants_a_boot_at_each_connection_gets_it_over_sockets():
    boots, connections = [], []

    async def talk(ws):
        connections.append(ws)
        async for text in ws:
            message = json.loads(text)
            if message[0] == 2:
                boots.extend([message[3]] * (message[2] == "BootNotification"))
                await ws.send(json.dumps([3, message[1], answer_of_cloud(message)]))

    async with serve(talk, "127.0.0.1", 0, subprotocols=["ocpp1.6"]) as cloud:
        address = f"ws://127.0.0.1:{cloud.sockets[0].getsockname()[1]}"
        async with (
            local_csms(upstream=address, upstream_tls={"replay_boot": True}) as local,
            plain(local.address) as peer,
        ):
            boot = {"chargePointVendor": "V", "chargePointModel": "M"}
            await peer.ask("BootNotification", boot, 8)
            await until(lambda: boots == [boot])
            await connections[0].close()
            await until(lambda: boots == [boot] * 2, 20)
            assert len(connections) == 2
