"""A person is forgotten in every file of a running controller; what the cloud must still hear names a pseudonym."""

import asyncio
import json
import subprocess

from ocpp.routing import on
from ocpp.v16 import call as call16
from ocpp.v16 import call_result as result16

from cem.csms.authorization import token_hash
from tests.adapters.ocpp_peers import Station16, Station201, cloud, station, until
from tests.e2e.controller import CEM
from tests.e2e.site_files import house

TAG = "04a1B2C3D4E5F6"


class Listed(Station16):
    """A station with a local list."""

    @on("SendLocalList")
    def on_list(self, **_):
        return result16.SendLocalList(status="Accepted")


def places(folder):
    """Files that name the tag or its hash, in any case."""
    words = (TAG.lower().encode(), token_hash(TAG).encode(), token_hash(TAG)[:12].encode())
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.name == "ledger.db" for path in files)
    assert any("replay" in path.parts for path in files)
    return sorted(path.name for path in files if any(word in path.read_bytes().lower() for word in words))


async def cem(controller, *words, code=0):
    def run():
        command = [*CEM, *words, "--site", str(controller.file)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    done = await asyncio.to_thread(run)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


async def test_a_tag_is_forgotten_in_every_file_while_the_controller_runs(start_controller, meter, tmp_path):
    async with cloud() as operator:
        controller = await start_controller(house(meter.port, cloud=operator.url))
        url = f"http://127.0.0.1:{controller.web_port}"
        async with station(Listed, controller.address, "A") as a, station(Station201, controller.address, "B") as b:
            await asyncio.gather(a.boot(), b.boot())
            await a.start(token=TAG)  # the cloud knows it, so the cache does
            entry = {"id_tag": TAG, "id_tag_info": {"status": "Accepted", "parent_id_tag": TAG}}
            full = call16.SendLocalList(list_version=1, update_type="Full", local_authorization_list=[entry])
            assert (await operator.peers["A"].call(full)).status == "Accepted"
            await a.stop()
            await cem(controller, "tag", "add", TAG, "--name", "Somebody")
            await operator.stop()
            await controller.sees(lambda p: p["csms"]["upstream"]["lost"])
            await asyncio.gather(a.start(token=TAG), b.start(token=TAG))
            assert set(places(tmp_path / "var")) >= {"ledger.db-wal", "access.json"}

            told = json.loads(await cem(controller, "privacy", "forget", TAG.upper(), "--url", url, "--json"))
            assert places(tmp_path / "var") == []
            assert (told["sessions"], told["messages"], told["signed_kept"]) == (3, 2, 0)
            assert told["tokens"] >= 2
            await asyncio.gather(a.stop(), b.stop())
            again = json.loads(await cem(controller, "privacy", "forget", TAG, "--url", url, "--json"))
            assert (again["sessions"], again["messages"], again["tokens"]) == (0, 0, 0)

            await operator.start()
            await until(lambda: operator.count("StopTransaction") == 2, 40.0)
            await until(lambda: operator.count("TransactionEvent", event_type="Ended") == 1, 40.0)
        instead = told["pseudonym"]
        assert [s["id_tag"] for s in operator.messages("StartTransaction")] == [TAG, instead]
        assert operator.messages("TransactionEvent")[0]["id_token"] == {"id_token": instead, "type": "ISO14443"}
        assert controller.stop() == 0
    assert places(tmp_path / "var") == []
    assert TAG.lower() not in controller.text().lower()
    assert json.loads(await cem(controller, "audit", "verify", "--json"))["problem"] is None
    (entry,) = [e for e in json.loads(await cem(controller, "audit", "list", "--json")) if "3 sessions" in e["text"]]
    assert entry["code"] == "token_forgotten"
    rows = json.loads(await cem(controller, "sessions", "export", "--json"))
    assert {row["token_hash"] for row in rows} == {instead}
