"""OCPP security profiles 1 to 3 towards stations, and TLS towards the cloud, over real sockets."""

import asyncio
import base64
import contextlib
import ssl
from datetime import UTC, datetime

import pytest
import trustme
from websockets.exceptions import InvalidStatus

from cem import access, pki
from cem.config.csms_models import ListenTls
from tests.adapters.ocpp_peers import Station16, Station201, cloud, local_csms, station, until

PASSWORD = "a-password-of-20-ch."
NOW = datetime.now(UTC)


class Certificates:
    """A CA, our certificates with keys of both kinds, and what a station needs to trust us."""

    def __init__(self, folder):
        self.folder = folder
        self.ca = trustme.CA()
        self.ca.cert_pem.write_to_path(folder / "ca.pem")
        ecdsa = self.ca.issue_cert("127.0.0.1", key_type=trustme.KeyType.ECDSA)
        rsa = self.ca.issue_cert("127.0.0.1", key_type=trustme.KeyType.RSA)
        for name, cert in (("ecdsa", ecdsa), ("rsa", rsa)):
            cert.private_key_pem.write_to_path(folder / f"{name}.key")
            for i, blob in enumerate(cert.cert_chain_pems):
                blob.write_to_path(folder / f"{name}.pem", append=i > 0)

    def listen(self, **more):
        place = self.folder
        return ListenTls(
            certificate=f"{place}/ecdsa.pem", key=f"{place}/ecdsa.key",
            second_certificate=f"{place}/rsa.pem", second_key=f"{place}/rsa.key", **more,
        )  # fmt: skip

    def trust(self, chain=None):
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        if chain is not None:
            context.load_cert_chain(*chain)
        return context

    def client(self, name):
        """A station's certificate of that CA."""
        cert = self.ca.issue_cert(common_name=name)
        with contextlib.ExitStack():
            path = self.folder / f"{name}.both"
            cert.private_key_and_cert_chain_pem.write_to_path(path)
        return (path, path)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("tls"))


def basic(who, password):
    given = password if isinstance(password, bytes) else password.encode()
    return {"Authorization": "Basic " + base64.b64encode(who.encode() + b":" + given).decode()}


async def refused_with(address, **options):
    with pytest.raises(InvalidStatus) as refused:
        async with station(Station16, address, **options):
            pass
    return refused.value.response.status_code


async def test_profile_2_takes_a_password_over_tls_only(certificates):
    tls = certificates.listen(port=free())
    async with local_csms(tls=tls, passwords={"S1": PASSWORD}, security_profile=2) as local:
        assert await refused_with(local.address, headers=basic("S1", PASSWORD)) == 403
        assert await refused_with(local.tls_address, ssl=certificates.trust()) == 401
        secure = {"ssl": certificates.trust(), "headers": basic("S1", PASSWORD)}
        async with station(Station201, local.tls_address, **secure) as s1:
            assert await s1.boot() == "Accepted"
        assert "station_unencrypted" in local.codes()


def free():
    from tests.adapters.ocpp_peers import free_port

    return free_port()


@pytest.mark.parametrize("kind", ["ECDSA", "RSA"])
async def test_stations_of_either_kind_of_key_are_served(certificates, kind):
    async with local_csms(tls=certificates.listen(), security_profile=0) as local:
        context = certificates.trust()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(f"ECDHE-{kind}-AES128-GCM-SHA256")
        async with station(Station16, local.tls_address, ssl=context) as s1:
            assert await s1.boot() == "Accepted"
            assert s1.ws.transport.get_extra_info("cipher")[0] == f"ECDHE-{kind}-AES128-GCM-SHA256"


async def test_a_station_that_knows_rsa_key_exchange_alone_is_served(certificates):
    async with local_csms(tls=certificates.listen(), security_profile=0) as local:
        context = certificates.trust()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("AES128-GCM-SHA256")  # OCPP 2.0.1 Part 2 A00.FR.318
        async with station(Station16, local.tls_address, ssl=context) as s1:
            assert await s1.boot() == "Accepted"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
async def test_old_tls_and_no_tls_are_refused(certificates):
    async with local_csms(tls=certificates.listen(), security_profile=0) as local:
        old = certificates.trust()
        old.set_ciphers("ALL:@SECLEVEL=0")
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, OSError)):
            async with station(Station16, local.tls_address, ssl=old):
                pass
        with pytest.raises(Exception):  # noqa: B017 - whatever the client makes of a TLS alert
            async with station(Station16, local.tls_address.replace("wss", "ws"), open_timeout=3):
                pass


async def test_profile_3_binds_the_certificate_to_the_identity(certificates):
    tls = certificates.listen(client_ca=f"{certificates.folder}/ca.pem")
    async with local_csms(("S1", "S2"), tls=tls, security_profile=3) as local:
        mine, other = certificates.trust(certificates.client("S1")), certificates.trust(certificates.client("S2"))
        async with station(Station16, local.tls_address, ssl=mine) as s1:
            assert await s1.boot() == "Accepted"
        assert await refused_with(local.tls_address, ssl=other) == 403
        assert await refused_with(local.tls_address, ssl=certificates.trust()) == 403
        stranger = Certificates.__new__(Certificates)
        stranger.folder, stranger.ca = certificates.folder, trustme.CA()
        context = certificates.trust(stranger.client("S1"))
        with pytest.raises((ssl.SSLError, OSError, EOFError, Exception)):
            async with station(Station16, local.tls_address, ssl=context) as s1:
                await s1.boot()


async def test_the_sites_own_ca_issues_and_revokes(certificates, tmp_path):
    root = pki.init(tmp_path, "Yard", NOW)
    certificate, key = pki.issue(tmp_path, "127.0.0.1", NOW, server=True)
    for path in (tmp_path / "pki").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    chain = pki.issue(tmp_path, "S1", NOW)
    tls = ListenTls(certificate=str(certificate), key=str(key))
    async with local_csms(tls=tls, directory=tmp_path, security_profile=3) as local:
        context = ssl.create_default_context(cafile=root)
        context.load_cert_chain(*chain)
        async with station(Station201, local.tls_address, ssl=context) as s1:
            assert await s1.boot() == "Accepted"
            assert pki.revoke(tmp_path, "S1", NOW) == 1
            await until(lambda: not local.server.status()["stations"][0]["online"], 15)  # also the one that is in
        assert await refused_with(local.tls_address, ssl=context) == 403
        fresh = ssl.create_default_context(cafile=root)
        fresh.load_cert_chain(*pki.issue(tmp_path, "S1", NOW, use_rsa=True))
        async with station(Station16, local.tls_address, ssl=fresh) as s1:
            assert await s1.boot() == "Accepted"
    assert "revoked" in next(e.text for e in local.events if e.code == "station_certificate")


async def test_a_renewed_certificate_is_taken_up_without_a_restart(certificates, tmp_path):
    root = pki.init(tmp_path, "Yard", NOW)
    for name in ("one", "two"):
        certificate, key = pki.issue(tmp_path, "127.0.0.1", NOW, server=True)
        (tmp_path / f"{name}.pem").write_bytes(certificate.read_bytes())
        (tmp_path / f"{name}.key").write_bytes(key.read_bytes())
    (tmp_path / "one.pem").rename(tmp_path / "now.pem")
    (tmp_path / "one.key").rename(tmp_path / "now.key")
    tls = ListenTls(certificate=f"{tmp_path}/now.pem", key=f"{tmp_path}/now.key")
    async with local_csms(tls=tls, directory=tmp_path, security_profile=0) as local:
        context = ssl.create_default_context(cafile=root)

        async def serial():
            async with station(Station16, local.tls_address, ssl=context) as s1:
                return s1.ws.transport.get_extra_info("peercert")["serialNumber"]

        before = await serial()
        (tmp_path / "two.pem").rename(tmp_path / "now.pem")
        assert "cannot be used" in local.server._tls.refresh()  # half a pair: the old one stays
        assert await serial() == before
        (tmp_path / "two.key").rename(tmp_path / "now.key")
        assert local.server._tls.refresh() is None
        assert await serial() != before


async def test_a_password_set_by_command_takes_the_place_of_the_site_files(tmp_path):
    async with local_csms(("S1", "S2"), passwords={"S1": PASSWORD, "S2": PASSWORD}, directory=tmp_path) as local:
        async with station(Station16, local.address, headers=basic("S1", PASSWORD)) as s1:
            assert await s1.boot() == "Accepted"
        with access.changing(tmp_path) as content:
            content["credentials"]["S1"] = access.hashed("another-one-of-20-ch")
        assert await refused_with(local.address, headers=basic("S1", PASSWORD)) == 401
        for _ in range(2):  # the second time it is known already
            async with station(Station16, local.address, headers=basic("S1", "another-one-of-20-ch")) as s1:
                assert await s1.boot() == "Accepted"
        async with station(Station16, local.address, name="S2", headers=basic("S2", PASSWORD)) as s2:
            assert await s2.boot() == "Accepted"
    assert b"another-one" not in (tmp_path / access.FILE).read_bytes()


@pytest.mark.parametrize("by_command", [True, False])
async def test_a_key_of_20_bytes_is_taken_raw_or_in_hexadecimal(tmp_path, by_command):
    key = bytes(range(200, 220))  # no UTF-8
    passwords = {"S1": key.hex().upper()}
    if by_command:
        with access.changing(tmp_path) as content:
            content["credentials"]["S1"] = access.hashed(passwords.pop("S1"))
    async with local_csms(passwords=passwords, directory=tmp_path, security_profile=1) as local:
        for given in (key, key.hex(), key.hex().upper()):
            async with station(Station16, local.address, headers=basic("S1", given)) as s1:
                assert await s1.boot() == "Accepted"
        assert await refused_with(local.address, headers=basic("S1", key[::-1])) == 401


async def test_the_cloud_is_dialed_with_tls_certificate_and_password(certificates):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificates.folder / "rsa.pem", certificates.folder / "rsa.key")
    certificates.ca.configure_trust(server)
    server.verify_mode = ssl.CERT_REQUIRED
    chain = certificates.client("site-leg")
    how = {"ca": f"{certificates.folder}/ca.pem", "certificate": str(chain[0]), "password": "towards-the-cloud"}
    async with cloud(server) as up, local_csms(upstream=up.url, upstream_tls=how) as local:
        async with station(Station16, local.address) as s1:
            assert await s1.boot() == "Accepted"
            await until(lambda: up.count("BootNotification") == 1)
        headers, peer = up.requests[0]
        assert headers["Authorization"] == basic("S1", "towards-the-cloud")["Authorization"]
        assert (("commonName", "site-leg"),) in peer["subject"]


async def test_a_cloud_that_cannot_prove_itself_is_told_nothing(certificates, tmp_path):
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificates.folder / "rsa.pem", certificates.folder / "rsa.key")
    how = {"ca": str(tmp_path / "other.pem"), "password": "towards-the-cloud"}
    async with cloud(server) as up, local_csms(upstream=up.url, upstream_tls=how) as local:
        async with station(Station16, local.address) as s1:
            assert await s1.boot() == "Accepted"  # in its place
            await until(lambda: "csms_lost" in local.codes())
            assert up.requests == []
        await asyncio.sleep(0)
