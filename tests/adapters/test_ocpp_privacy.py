"""CustomerInformation(clear) from the cloud reaches the station and everything that is kept here (OCPP 2.0.1 N10)."""

import asyncio

import pytest
from ocpp.routing import on
from ocpp.v201 import call as call201
from ocpp.v201 import call_result as result201

from cem.csms.authorization import token_hash
from cem.store import Store
from tests.adapters.ocpp_peers import Station21, Station201, cloud, local_csms, station, until

TAG = "04A1B2C3D4E5F6"


@pytest.mark.parametrize("kind", [Station201, Station21])
async def test_what_the_cloud_clears_is_forgotten_here_as_well_once_for_many_requests(tmp_path, kind):
    class Asked(kind):
        """A station that notes whose data it is to clear."""

        start_reading = kind.start_reading

        @on("CustomerInformation")
        def on_customer(self, **payload):
            self.seen.other.append(payload["id_token"]["id_token"])
            return result201.CustomerInformation(status="Accepted")

    store = Store(tmp_path / "var")
    try:
        async with (
            cloud() as sky,
            local_csms(
                upstream=sky.url, store=store, offline_authorization="accept", directory=tmp_path / "var"
            ) as local,
            station(Asked, local.address) as peer,
        ):
            await peer.boot()
            await peer.start(token=TAG)
            await peer.stop()
            await until(lambda: any(s.token_hash == token_hash(TAG) for s in store.sessions()))
            clear = call201.CustomerInformation(
                request_id=1, report=False, clear=True, id_token={"id_token": TAG, "type": "ISO14443"}
            )
            only_report = call201.CustomerInformation(
                request_id=2, report=True, clear=False, id_token={"id_token": "OTHER", "type": "ISO14443"}
            )
            for request in (only_report, clear, clear):
                assert (await sky.peers["S1"].call(request)).status == "Accepted"
            await until(lambda: all(s.token_hash != token_hash(TAG) for s in store.sessions()))
            assert [s.token_hash[:9] for s in store.sessions()] == ["FORGOTTEN"]
            assert peer.seen.other == ["OTHER", TAG, TAG]
            await asyncio.sleep(0.3)
            codes = [event.code for event in store.events()]
            assert codes.count("token_forgotten") == 1, "no upstream can have the ledger written anew again and again"
    finally:
        store.close()
    for path in (tmp_path / "var").iterdir():
        if path.is_file():
            assert TAG.encode() not in path.read_bytes(), path
            assert token_hash(TAG).encode() not in path.read_bytes(), path
