"""OPC UA with Basic256Sha256 against a real asyncua server: trust, users, and measured values."""

import asyncio
import shutil
import stat
import time

import pytest
import trustme
from cryptography import x509

import adapters
from cem.config.models import Device
from cem.errors import AdapterError, DeviceMisconfigured, DeviceRefused, DeviceUnavailable
from tests.adapters.fault_proxy import FaultProxy
from tests.adapters.field import CLOCK, fresh, running, until
from tests.adapters.opcua_secure_server import URI, SecureServer

NODES = {
    "power_l1_w": {"node": "Objects/Meter/L1", "scale": 1000},
    "power_l2_w": {"node": "Objects/Meter/L2", "scale": 1000},
    "power_l3_w": {"node": "Objects/Meter/L3", "scale": -1000},
    "voltage_l1_v": {"node": "s=Volt"},
    "voltage_l2_v": {"node": "s=Volt"},
    "voltage_l3_v": {"node": "s=Volt"},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = SecureServer(tmp_path_factory.mktemp("server"))
    yield server
    server.kill()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("cem.supervise.FIRST_PAUSE_S", 0.3)
    monkeypatch.setattr("cem.supervise.LONGEST_PAUSE_S", 0.6)
    monkeypatch.setattr("adapters.opcua.session.READ_TIMEOUT_S", 1.0)


@pytest.fixture(scope="module")
def pki(server, tmp_path_factory):
    """A folder in which both sides trust each other."""
    folder = tmp_path_factory.mktemp("pki")
    (folder / "trusted").mkdir()
    shutil.copy(server.folder / "server.der", folder / "trusted")
    from adapters.opcua.pki import own_identity

    certificate, _, _ = own_identity(folder)
    shutil.copy(certificate, server.folder / "clients" / "cem.der")
    return folder


def make(server, folder, *, news=lambda: None, connection=None, **more):
    at = {
        "kind": "opcua", "endpoint": f"opc.tcp://127.0.0.1:{server.port}/meter", "namespace_uri": URI,
        "security": "sign_and_encrypt", "username": "cem", "password": "right", "pki_folder": str(folder),
        **(connection or {}),
    }  # fmt: skip
    section = {"id": "meter", "role": "grid_meter", "connection": at, "nodes": NODES, "poll_s": 0.2, **more}
    device = Device.model_validate(section)
    return adapters.create("opcua", device.connection, [device], CLOCK, news)


async def ends(adapter):
    await asyncio.wait_for(adapter.run(), 15)


@pytest.mark.parametrize("security", ["sign", "sign_and_encrypt"])
async def test_measured_values_over_a_secured_session(server, pki, security):
    server.tell("l1 1.5")
    adapter = make(server, pki, connection={"security": security})
    async with running(adapter):
        found = await fresh(adapter, timeout_s=15)
        assert found.power_w == (1500, 2000, -3000)
        assert found.voltage_v == (231, 231, 231)
        assert adapter.problems() == {}
        server.tell("l1 2.5")
        await until(lambda: adapter.measurements()["meter"].power_w.l1 == 2500)


async def test_an_unknown_server_is_refused_until_somebody_trusts_it(server, pki, tmp_path):
    shutil.copytree(pki / "own", tmp_path / "own")
    adapter = make(server, tmp_path)
    with pytest.raises(DeviceMisconfigured, match=r"not trusted.*move ") as refused:
        await ends(adapter)
    (rejected,) = (tmp_path / "rejected").iterdir()
    assert str(rejected) in str(refused.value)
    assert str(tmp_path / "trusted") in str(refused.value)
    (tmp_path / "trusted").mkdir()
    rejected.rename(tmp_path / "trusted" / rejected.name)  # as the message says
    async with running(adapter):
        await fresh(adapter, timeout_s=15)


async def test_our_certificate_is_made_once_and_a_server_that_does_not_know_it_is_told_of(server, tmp_path):
    (tmp_path / "trusted").mkdir()
    shutil.copy(server.folder / "server.der", tmp_path / "trusted" / "it.der")
    with pytest.raises(DeviceRefused, match=r"does not trust our certificate.*certificate.der"):
        await ends(make(server, tmp_path))
    own = tmp_path / "own" / "certificate.der"
    first = own.read_bytes()
    certificate = x509.load_der_x509_certificate(first)
    assert certificate.public_key().key_size == 2048
    assert stat.S_IMODE((tmp_path / "own" / "key.pem").stat().st_mode) == 0o600
    shutil.copy(own, server.folder / "clients" / "other.der")
    adapter = make(server, tmp_path)
    async with running(adapter):
        await fresh(adapter, timeout_s=15)
    assert own.read_bytes() == first


async def test_users_by_password_and_by_certificate(server, pki):
    with pytest.raises(DeviceRefused, match="check username and password") as refused:
        await ends(make(server, pki, connection={"password": "wrong-secret"}))
    assert "secret" not in str(refused.value)
    with pytest.raises(DeviceRefused):
        await ends(make(server, pki, connection={"username": None, "password": None}))
    by_certificate = {
        "username": None, "password": None,
        "certificate_file": str(server.folder / "user.der"), "key_file": str(server.folder / "user.pem"),
    }  # fmt: skip
    adapter = make(server, pki, connection=by_certificate)
    async with running(adapter):
        await fresh(adapter, timeout_s=15)


async def test_what_the_server_does_not_offer_is_told(server, pki):
    with pytest.raises(DeviceMisconfigured, match=r"does not offer Aes256_Sha256_RsaPss.*Basic256Sha256 Sign"):
        await ends(make(server, pki, connection={"policy": "Aes256_Sha256_RsaPss"}))
    with pytest.raises(DeviceMisconfigured, match="has no node 'Objects/Meter/L9'"):
        await ends(make(server, pki, nodes={"total_power_w": {"node": "Objects/Meter/L9"}}))


async def test_bad_status_and_source_time(server, pki):
    server.tell("l1 1")
    adapter = make(server, pki, connection={"source_time": True})
    async with running(adapter):
        server.tell("old 0")
        await fresh(adapter, timeout_s=15)
        server.tell("bad")
        await until(lambda: "BadSensorFailure" in adapter.problems().get("meter", ""))
        server.tell("old 100")
        await until(lambda: not adapter.problems())
        age_s = time.monotonic() - adapter.measurements()["meter"].taken_s
        assert 99 < age_s < 103  # read just now, measured long ago
    plain = make(server, pki)
    async with running(plain):
        assert time.monotonic() - (await fresh(plain, timeout_s=15)).taken_s < 2


async def test_a_life_counter_that_stands_still(server, pki, monkeypatch):
    monkeypatch.setattr("adapters.opcua.sample.STILL_S", 0.5)
    server.tell("l1 1")
    server.tell("life 0")
    adapter = make(server, pki, heartbeat="Objects/Meter/Life")
    async with running(adapter):
        await until(lambda: "stands still" in adapter.problems()["meter"], 15)
        assert adapter.measurements() == {}  # it may have stood still for days
        server.tell("life 1")
        await until(adapter.measurements)
        server.tell("life 0")
        stopped = time.monotonic()
        await until(lambda: "stands still" in adapter.problems().get("meter", ""))
        assert adapter.measurements()["meter"].taken_s < stopped + 0.3
        server.tell("life 1")


async def test_frozen_then_thawed(server, pki):
    adapter = make(server, pki)
    async with running(adapter):
        await fresh(adapter, timeout_s=15)
        server.freeze()
        try:
            await asyncio.sleep(2.0)
            kept = adapter.measurements()["meter"]
            assert time.monotonic() - kept.taken_s > 1.5
        finally:
            server.thaw()
        await fresh(adapter, timeout_s=15)


@pytest.mark.parametrize("fault", ["reset", "truncate", "late"])
async def test_what_cuts_a_secured_read_short_ends_the_run(server, pki, fault):
    async with FaultProxy(server.port) as proxy:
        adapter = make(server, pki, connection={"endpoint": f"opc.tcp://127.0.0.1:{proxy.port}/meter"})
        run = asyncio.create_task(adapter.run())
        await until(adapter.measurements, 15)
        match fault:
            case "reset":
                proxy.drop()
            case "truncate":
                proxy.truncate = 10
            case "late":
                proxy.delays_s.append(2.0)
        with pytest.raises(DeviceUnavailable):
            await asyncio.wait_for(run, 8)


async def test_a_write_to_a_frozen_server_ends_in_time_and_nothing_is_sent_once_it_is_gone(server, pki, monkeypatch):
    monkeypatch.setattr("adapters.opcua.write.WRITE_TIMEOUT_S", 1.0)
    writes = {"current_a": {"node": "Objects/Plc/Current", "valid": [0, 32]}}
    adapter = make(server, pki, write_nodes=writes)
    assert adapter.writes("meter") is None
    with pytest.raises(DeviceUnavailable, match="no connection"):
        await adapter.write("meter", "current_a", 6)
    async with running(adapter):
        await fresh(adapter, timeout_s=15)
        assert adapter.writes("meter") == ["current_a"]
        assert await adapter.write("meter", "current_a", 9) == 9
        server.freeze()
        try:
            started = time.monotonic()
            with pytest.raises(AdapterError):
                await adapter.write("meter", "current_a", 10)
            assert time.monotonic() - started < 3
        finally:
            server.thaw()
        await fresh(adapter, timeout_s=15)
        assert await adapter.write("meter", "current_a", 11) == 11


def test_a_ca_in_the_trust_list_vouches_for_its_servers(tmp_path):
    """Not for others, and not with a certificate that is no CA."""
    from adapters.opcua.pki import check_trusted

    ca, other = trustme.CA(), trustme.CA()
    (tmp_path / "trusted").mkdir()
    ca.cert_pem.write_to_path(tmp_path / "trusted" / "ca.pem")
    der = ca_signed(ca.issue_cert("plc.local"))
    assert check_trusted(tmp_path, der + der, "plc") == der  # with its chain behind it
    for number in range(25):
        with pytest.raises(DeviceMisconfigured, match="not trusted"):
            check_trusted(tmp_path, ca_signed(other.issue_cert(f"plc{number}.local")), "plc")
    assert len(list((tmp_path / "rejected").iterdir())) == 20
    with pytest.raises(DeviceMisconfigured, match="no certificate"):
        check_trusted(tmp_path, b"\x30\x03abc", "plc")


def ca_signed(pair):
    from cryptography.hazmat.primitives.serialization import Encoding

    return x509.load_pem_x509_certificate(pair.cert_chain_pems[0].bytes()).public_bytes(Encoding.DER)
