"""New passwords and new addresses for stations, by the operator alone, over real websockets."""

import asyncio
import base64
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from ocpp.exceptions import NotImplementedError as OcppNotImplemented
from ocpp.routing import on
from ocpp.v16 import call as call16
from ocpp.v16 import call_result as result16
from ocpp.v201 import call as call201
from ocpp.v201 import call_result as result201
from websockets.exceptions import InvalidStatus

from cem import access, pki
from cem.errors import CemError
from tests.adapters.ocpp_peers import Station16, Station201, cloud, local_csms, station, until

OLD = "the-old-password-of-S1"


def basic(password):
    return {"Authorization": "Basic " + base64.b64encode(f"S1:{password}".encode()).decode()}


class Keyed16(Station16):
    """A station that takes passwords and addresses, or does not."""

    status = "Accepted"

    @on("ChangeConfiguration")
    def on_configuration(self, key, value):
        self.seen.configured.append((key, value))
        return result16.ChangeConfiguration(
            status=self.status if key in {"AuthorizationKey", "Address"} else "Accepted"
        )

    @on("Reset")
    def on_reset(self, type):  # noqa: A002 - the library's word
        self.seen.other.append(("Reset", type))
        return result16.Reset(status="Accepted")


class Keyed201(Station201):
    """The same in 2.0.1."""

    status = "Accepted"

    @on("GetVariables")
    def on_get(self, get_variable_data):
        return result201.GetVariables(get_variable_result=[
            {**asked, "attribute_status": "Accepted", "attribute_value": "1"} for asked in get_variable_data
        ])  # fmt: skip

    @on("SetVariables")
    def on_variables(self, set_variable_data):
        answer = super().on_variables(set_variable_data)
        if set_variable_data[0]["variable"]["name"] == "BasicAuthPassword":
            answer.set_variable_result[0]["attribute_status"] = self.status
        return answer

    @on("SetNetworkProfile")
    def on_network(self, configuration_slot, connection_data):
        self.seen.other.append((configuration_slot, connection_data["ocpp_csms_url"]))
        return result201.SetNetworkProfile(status="Accepted")

    @on("Reset")
    def on_reset(self, type, **_):  # noqa: A002 - the library's word
        self.seen.other.append(("Reset", type))
        return result201.Reset(status="Accepted")


KINDS = pytest.mark.parametrize("kind", [Keyed16, Keyed201])
NAMES = {"AuthorizationKey", "BasicAuthPassword"}


def given(peer):
    return next((value for name, value in peer.seen.configured if name in NAMES), None)


async def refused(local, kind, password):
    with pytest.raises(InvalidStatus):
        async with station(kind, local.address, headers=basic(password)):
            pass


@KINDS
async def test_the_old_password_counts_until_the_station_came_in_with_the_new_one(tmp_path, kind):
    async with local_csms(passwords={"S1": OLD}, directory=tmp_path, security_profile=1) as local:
        async with station(kind, local.address, headers=basic(OLD)) as peer:
            await peer.boot()
            rotating = asyncio.create_task(local.server.workflows.rotate("S1"))
            await until(lambda: given(peer) is not None)
            with pytest.raises(CemError, match="already"):
                await local.server.workflows.rotate("S1")
            await until(lambda: "credentials_offered" in local.codes())
            await peer.ws.wait_closed()  # it did not dial anew by itself, so it was made to
        new = given(peer)
        assert 16 <= len(new) <= 40
        assert new not in (tmp_path / access.FILE).read_text()
        async with station(kind, local.address, headers=basic(OLD)) as peer:
            await peer.boot()  # it lost the new one: it can still come back
        async with station(kind, local.address, headers=basic(new)) as peer:
            await peer.boot()
            assert await asyncio.wait_for(rotating, 5) == "confirmed"
        await refused(local, kind, OLD)
        assert [c for c in local.codes() if c.startswith("credentials")] == [
            "credentials_offered",
            "credentials_rotated",
        ]
    async with (
        local_csms(passwords={"S1": OLD}, directory=tmp_path, security_profile=1) as local,
        station(kind, local.address, headers=basic(new)) as peer,
    ):
        await peer.boot()
        await refused(local, kind, OLD)


@KINDS
async def test_a_refused_password_leaves_the_old_one(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(kind, "status", "Rejected")
    async with local_csms(passwords={"S1": OLD}, directory=tmp_path, security_profile=1) as local:
        async with station(kind, local.address, headers=basic(OLD)) as peer:
            await peer.boot()
            with pytest.raises(CemError, match="refused a new password"):
                await local.server.workflows.rotate("S1")
        await refused(local, kind, given(peer))
        async with station(kind, local.address, headers=basic(OLD)) as peer:
            await peer.boot()
        with pytest.raises(CemError, match="no station"):
            await local.server.workflows.rotate("S9")
        await until(lambda: not local.server.status()["stations"][0]["online"])
        with pytest.raises(CemError, match="not online"):
            await local.server.workflows.rotate("S1")


async def test_a_2x_station_is_pointed_elsewhere_with_us_as_its_second_choice(tmp_path):
    async with local_csms(directory=tmp_path) as local, station(Keyed201, local.address) as peer:
        await peer.boot()
        move = local.server.workflows.migrate
        await peer.start()
        with pytest.raises(CemError, match="is charging"):
            await move("S1", "wss://other.example/ocpp", key=None, slot=2, security_profile=2)
        await peer.stop()
        with pytest.raises(CemError, match="slot 1 is the one"):
            await move("S1", "wss://other.example/ocpp", key=None, slot=1, security_profile=2)
        with pytest.raises(CemError, match="not an address"):
            await move("S1", "wss://user:secret@other.example/ocpp", key=None, slot=2, security_profile=2)
        done = await move("S1", "wss://other.example/ocpp", key=None, slot=2, security_profile=2)
        assert done == ["SetNetworkProfile: Accepted", "SetVariables: Accepted", "Reset: Accepted"]
        assert peer.seen.other == [(2, "wss://other.example/ocpp"), ("Reset", "OnIdle")]
        assert ("NetworkConfigurationPriority", "2,1") in peer.seen.configured
        assert "station_migrated" in local.codes()


async def test_a_1_6_station_needs_its_vendors_key(tmp_path, monkeypatch):
    async with local_csms(directory=tmp_path) as local, station(Keyed16, local.address) as peer:
        await peer.boot()
        move = local.server.workflows.migrate
        with pytest.raises(CemError, match="--key"):
            await move("S1", "ws://10.0.0.9/ocpp", key=None, slot=2, security_profile=1)
        await move("S1", "ws://10.0.0.9/ocpp", key="Address", slot=2, security_profile=1)
        assert ("Address", "ws://10.0.0.9/ocpp") in peer.seen.configured
        assert peer.seen.other == [("Reset", "Soft")]
        monkeypatch.setattr(Keyed16, "status", "Rejected")
        with pytest.raises(CemError, match="refused ChangeConfiguration"):
            await move("S1", "ws://10.0.0.9/ocpp", key="Address", slot=2, security_profile=1)
        assert "migration_refused" in local.codes()


def request_of(name):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return key, csr.public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.parametrize("has_ca", [True, False])
@KINDS
async def test_the_certificate_of_a_stations_leg_is_ours_and_a_contracts_is_the_clouds(tmp_path, kind, has_ca):
    if has_ca:
        pki.init(tmp_path, "Yard", datetime.now(UTC))
    given_chains = []

    class Certified(kind):
        @on("CertificateSigned")
        def on_signed(self, certificate_chain, **_):
            given_chains.append(certificate_chain)
            return (result16 if kind is Keyed16 else result201).CertificateSigned(status="Accepted")

    Certified.start_reading = kind.start_reading
    calls = call16 if kind is Keyed16 else call201
    async with (
        cloud() as sky,
        local_csms(upstream=sky.url, directory=tmp_path) as local,
        station(Certified, local.address) as peer,
    ):
        await peer.boot()
        key, csr = request_of("S1")
        answer = await peer.call(calls.SignCertificate(csr=csr))
        assert answer.status == ("Accepted" if has_ca else "Rejected")
        if has_ca:
            await until(lambda: "certificate_issued" in local.codes())
            leaf, root = x509.load_pem_x509_certificates(given_chains[0].encode())
            leaf.verify_directly_issued_by(root)
            assert leaf.public_key() == key.public_key()
            assert [i.identity for i in pki.listing(tmp_path)] == ["S1"]
            await peer.call(calls.SignCertificate(csr=request_of("S2")[1]))
            await until(lambda: "certificate_refused" in local.codes())
        assert len(given_chains) == has_ca
        if kind is Keyed201:
            with pytest.raises(OcppNotImplemented):  # passed on to the cloud, which does not know it
                await peer.call(calls.SignCertificate(csr=csr, certificate_type="V2GCertificate"), suppress=False)
