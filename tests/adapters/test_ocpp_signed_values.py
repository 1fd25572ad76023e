"""Signed meter values (OCMF) verify at the cloud, in the ledger and in an export as they did at the station."""

import base64
import json

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from ocpp.v16 import call as call16
from ocpp.v201 import call as call201
from pyocmf import OCMF
from typer.testing import CliRunner

from cem.cli import make_app
from cem.store import Store
from cem.store.details import read_details
from tests.adapters.ocpp_peers import Station16, Station201, cloud, local_csms, stamp, station, until

SITE = """\
version: 1
site: {name: Yard, grid_connection: {fuse_a: 63}}
zones: [{id: z, protection: {rating_a: 63}}]
stations: [{id: S1, zone: z, breaker_a: 40}]
csms: {upstreams: [{id: cloud, url: "ws://127.0.0.1:1"}]}
"""


class Meter:
    """A meter with a key of its own; its words have odd spacing, which a parser would not give back."""

    def __init__(self):
        self._key = ec.generate_private_key(ec.SECP256R1())
        public = self._key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.public = public.hex()

    def sign(self, kwh, reason, tag="04A1B2C3D4E5F6"):
        payload = (
            f'{{"FV": "1.0","GI":"gw", "GS":"1","PG":"T1","MV":"Mé","MM":"M","MS":"42","IS":true,"IF":[],'
            f'"IT":"ISO14443","ID":"{tag}","RD":[{{"TM":"2026-11-22T10:00:00,000+0000 S","TX":"{reason}",'
            f'"RV":{kwh},"RI":"01-00:B2.08.00*FF","RU":"kWh","RT":"DC","EF":"","ST":"G"}}]}}'
        )
        signature = self._key.sign(payload.encode(), ec.ECDSA(hashes.SHA256())).hex()
        return f'OCMF|{payload}|{{"SD":"{signature}"}}'

    def verifies(self, text):
        return OCMF.from_string(text).verify_signature(self.public)


async def speak(peer, begin, end, *, late=None):
    """One transaction with a signed value at each end; ``late`` is awaited before the end is told."""
    if isinstance(peer, Station16):
        await peer.start()
        if late is not None:
            await late()
        values = [
            {"timestamp": stamp(), "sampled_value": [{"value": text, "format": "SignedData", "context": context}]}
            for text, context in ((begin, "Transaction.Begin"), (end, "Transaction.End"))
        ]
        await peer.call(
            call16.StopTransaction(
                transaction_id=peer.transaction, meter_stop=900, timestamp=stamp(), transaction_data=values
            )
        )
        return
    await peer.start()
    if late is not None:
        await late()
    for kind, trigger, text in (("Updated", "SignedDataReceived", begin), ("Ended", "StopAuthorized", end)):
        signed = {
            "signed_meter_data": base64.b64encode(text.encode()).decode(), "signing_method": "ECDSA-secp256r1-SHA256",
            "encoding_method": "OCMF", "public_key": "",
        }  # fmt: skip
        sampled = [{"value": 1.10, "signed_meter_value": signed}]
        more = {"stopped_reason": "Local"} if kind == "Ended" else {}
        peer.sequence += 1
        await peer.call(
            call201.TransactionEvent(
                event_type=kind, timestamp=stamp(), trigger_reason=trigger, seq_no=peer.sequence,
                transaction_info={"transaction_id": peer.transaction, **more}, evse={"id": 1, "connector_id": 1},
                meter_value=[{"timestamp": stamp(), "sampled_value": sampled}],
            )
        )  # fmt: skip


def heard(sky):
    """The signed words that reached the cloud."""
    values = [v for p in sky.messages("StopTransaction") for v in p.get("transaction_data") or ()]
    values += [v for p in sky.messages("TransactionEvent") for v in p.get("meter_value") or ()]
    found = []
    for value in values:
        for sample in value["sampled_value"]:
            if sample.get("format") == "SignedData":
                found.append(sample["value"])
            elif sample.get("signed_meter_value"):
                found.append(base64.b64decode(sample["signed_meter_value"]["signed_meter_data"]).decode())
    return found


def words(sample):
    signed = sample.get("signedMeterValue")
    return base64.b64decode(signed["signedMeterData"]).decode() if signed else sample["value"]


@pytest.mark.parametrize("away", [False, True], ids=["live", "through an outage"])
@pytest.mark.parametrize("kind", [Station16, Station201])
async def test_a_signed_value_verifies_before_and_after_the_proxy(tmp_path, kind, away):
    meter = Meter()
    begin, end = meter.sign("10.000", "B"), meter.sign("12.500", "E")
    assert meter.verifies(begin)
    assert not meter.verifies(end.replace("12.500", "12.501"))
    store = Store(tmp_path / "var")
    try:
        async with (
            cloud() as sky,
            local_csms(upstream=sky.url, store=store) as local,
            station(kind, local.address) as peer,
        ):
            await peer.boot()
            await speak(peer, begin, end, late=sky.stop if away else None)
            waiting = read_details(tmp_path / "var" / "ledger.db", store.sessions())
            if away:
                assert [d.delivery() for d in waiting.values()] == ["waiting"]
                await sky.start()
            await until(lambda: len(heard(sky)) == 2, 30)
        assert heard(sky) == [begin, end]
        assert all(meter.verifies(text) for text in heard(sky))
        assert not meter.verifies(heard(sky)[1].replace('"RV":12.500', '"RV":12.5'))
    finally:
        store.close()
    (tmp_path / "site.yaml").write_text(SITE)
    told = CliRunner().invoke(
        make_app(["sessions"]), ["sessions", "export", "--json", "--site", str(tmp_path / "site.yaml")]
    )
    (row,) = json.loads(told.output)
    kept = [words(value["sampled_value"]) for value in row["signed_values"]]
    assert kept == [begin, end]
    assert all(meter.verifies(text) for text in kept)
    assert row["delivery"] == "told"
    upstream = row["upstreams"].get("cloud", {})
    assert (upstream.get("waiting", 0), upstream.get("refused", 0)) == (0, 0)
