"""An asyncua server with Basic256Sha256, users and a trust list of its own, as a process of its own.

Objects/Em, a whole meter (v1 to v3, a1, w1, p1, wh1 in V, A, W, Wh); Objects/Meter with L1 to L3 (kW), Volt (s=Volt) and Life (ten beats a second); Objects/Plc with what may be written: Percent
(Int16), Current (Float), Ignored (Float, shown by Shown, which never follows) and Locked, which nobody may write. User ``cem`` with password ``right``, or
whoever shows the user certificate. Client applications are trusted when their certificate lies in the given folder.
"""

import asyncio
import json
import logging
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from asyncua import Server, ua
from asyncua.common.utils import ServiceError
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.crypto.permission_rules import User, UserRole
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.adapters.child import Child

URI = "urn:test:meter"


class SecureServer(Child):
    """The process: told ``em JSON``, ``l1 KW``, ``bad``, ``life 0|1``, ``old SECONDS`` (source times so far in the past).

    Args:
        port: To listen at; 0: any.
        folder: Gets server.der, server.pem (key), user.der, user.pem, and ``clients/`` for trusted applications.
    """

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder = folder
        (folder / "clients").mkdir(exist_ok=True)
        super().__init__("tests.adapters.opcua_secure_server", folder, port)


class _Users:
    def __init__(self, certificate: bytes) -> None:
        self._certificate = certificate

    def get_user(self, _server, username=None, password=None, certificate=None):
        known = certificate is not None and bytes(certificate) == self._certificate
        return User(role=UserRole.User) if known or (username, password) == ("cem", "right") else None


async def _serve(folder: Path, port: int) -> None:
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)
    for name, uri, use in (
        ("server", "urn:test:server", ExtendedKeyUsageOID.SERVER_AUTH),
        ("user", "urn:test:user", ExtendedKeyUsageOID.CLIENT_AUTH),
    ):
        await setup_self_signed_certificate(
            folder / f"{name}.pem", folder / f"{name}.der", uri, "localhost", [use], {"commonName": f"test {name}"}
        )
    server = Server(user_manager=_Users((folder / "user.der").read_bytes()))
    await server.init()
    await server.set_application_uri("urn:test:server")
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/meter")
    server.set_security_policy(
        [ua.SecurityPolicyType.Basic256Sha256_Sign, ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt]
    )
    await server.load_certificate(str(folder / "server.der"))
    await server.load_private_key(str(folder / "server.pem"))

    async def trusted(certificate: x509.Certificate, _application) -> None:
        known = [path.read_bytes() for path in (folder / "clients").iterdir()]
        if certificate.public_bytes(Encoding.DER) not in known:
            raise ServiceError(ua.StatusCodes.BadCertificateUntrusted)

    server.set_certificate_validator(trusted)
    index = await server.register_namespace(URI)
    meter = await server.nodes.objects.add_object(index, "Meter")
    phases = [await meter.add_variable(index, f"L{n}", float(n)) for n in (1, 2, 3)]
    await meter.add_variable(ua.NodeId("Volt", index), f"{index}:Volt", 231.0)
    life = await meter.add_variable(index, "Life", 0, ua.VariantType.UInt32)
    folder_em = await server.nodes.objects.add_object(index, "Em")
    names = [f"{what}{n}" for what in "vaw" for n in (1, 2, 3)] + ["p1", "wh1"]
    em = {name: await folder_em.add_variable(index, name, 0.0) for name in names}
    plc = await server.nodes.objects.add_object(index, "Plc")
    for name, kind in (("Percent", "Int16"), ("Current", "Float"), ("Ignored", "Float")):
        node = await plc.add_variable(index, name, 0, getattr(ua.VariantType, kind))
        await node.set_writable()
    await plc.add_variable(index, "Shown", 7.0)
    await plc.add_variable(index, "Locked", 0.0)
    async with server:
        print(server.bserver._server.sockets[0].getsockname()[1], flush=True)
        alive = {"on": True}
        commands = asyncio.create_task(_obey(phases, em, alive))
        beat = 0
        while not commands.done():
            await asyncio.sleep(0.1)
            beat += alive["on"]
            await life.write_value(beat, ua.VariantType.UInt32)


async def _obey(phases, meter, alive) -> None:
    while line := await asyncio.to_thread(sys.stdin.readline):
        word, *rest = line.split()
        number = float(rest[0]) if rest and word != "em" else 0.0
        match word:
            case "em":
                for name, value in json.loads(rest[0]).items():
                    await meter[name].write_value(float(value))
            case "l1":
                await phases[0].write_value(number)
            case "bad":
                status = ua.StatusCode(ua.StatusCodes.BadSensorFailure)
                await phases[0].write_value(ua.DataValue(ua.Variant(1.0, ua.VariantType.Double), status))
            case "life":
                alive["on"] = bool(number)
            case "old":
                now = datetime.now(UTC)
                for phase in phases:
                    old = ua.DataValue(
                        ua.Variant(1.0, ua.VariantType.Double),
                        SourceTimestamp=now - timedelta(seconds=number),
                        ServerTimestamp=now,
                    )
                    await phase.write_value(old)
        print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), int(sys.argv[2])))
