"""Certificates towards OPC UA servers: our own, made at the first use, and whom we trust.

The folder has ``own/`` (certificate.der, key.pem), ``trusted/`` (certificates of servers or of their CA, DER or PEM) and
``rejected/``, where an unknown server's certificate is put for somebody to look at.
"""

import datetime as dt
import hashlib
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cem.errors import DeviceMisconfigured

KEY_BITS = 2048  # Basic256Sha256 takes 2048 to 4096
LIFE_DAYS = 3650
MOST_REJECTED = 20
"""A stranger that shows a new certificate at every connect fills no disk."""


def own_identity(folder: Path) -> tuple[Path, Path, str]:
    """Our certificate, the key to it and our application URI; made where there are none.

    Raises:
        DeviceMisconfigured: The folder cannot be written or holds something else.
    """
    certificate, key = folder / "own" / "certificate.der", folder / "own" / "key.pem"
    try:
        if not (certificate.exists() and key.exists()):
            _make(certificate, key)
        loaded = x509.load_der_x509_certificate(certificate.read_bytes())
        names = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uri = names.get_values_for_type(x509.UniformResourceIdentifier)[0]
    except (OSError, ValueError, IndexError, x509.ExtensionNotFound) as error:
        raise DeviceMisconfigured(
            f"{certificate.parent} holds no certificate for OPC UA and none can be made there ({error}); "
            "give a folder that we may write, or put certificate.der with an application URI and key.pem there"
        ) from error
    return certificate, key, uri


def check_trusted(folder: Path, shown: bytes, where: str) -> bytes:
    """The server's own certificate out of what it showed.

    Args:
        folder: As above.
        shown: What the server showed, DER, perhaps with its chain behind.
        where: For messages.

    Raises:
        DeviceMisconfigured: It is not trusted; says how it could be.
    """
    der = shown[: _der_length(shown)]
    try:
        server = x509.load_der_x509_certificate(der)
    except ValueError as error:
        raise DeviceMisconfigured(f"{where} shows something that is no certificate ({error})") from error
    trusted = folder / "trusted"
    if any(_vouches(known, server, der) for known in _certificates(trusted)):
        return der
    put = _reject(folder / "rejected", server, der)
    finger = hashlib.sha256(der).hexdigest().upper()
    raise DeviceMisconfigured(
        f"{where} shows a certificate that is not trusted: {server.subject.rfc4514_string()}, SHA-256 "
        f"{':'.join(finger[i : i + 2] for i in range(0, 16, 2))}...; if it is the server's own, move {put} to {trusted}"
    )


def _make(certificate: Path, key: Path) -> None:
    host = socket.gethostname()
    private = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"cem site controller on {host}"[:64])])
    now = dt.datetime.now(dt.UTC)
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=True, key_encipherment=True, data_encipherment=True,
        key_agreement=False, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip  # OPC UA part 6, 6.2.2
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=LIFE_DAYS))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.UniformResourceIdentifier(f"urn:{host}:cem-site-controller"), x509.DNSName(host)]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
        .sign(private, hashes.SHA256())
    )
    certificate.parent.mkdir(parents=True, exist_ok=True)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(pem)
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.DER))


def _certificates(folder: Path) -> Iterator[x509.Certificate]:
    """Every readable certificate of a folder; what is no certificate is left alone."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            content = path.read_bytes()
            if b"-----BEGIN CERTIFICATE" in content:
                yield from x509.load_pem_x509_certificates(content)
            else:
                yield x509.load_der_x509_certificate(content)
        except (OSError, ValueError):
            continue


def _vouches(known: x509.Certificate, server: x509.Certificate, der: bytes) -> bool:
    """The certificate itself, whatever its dates (somebody put it there), or a CA that signed it, within their dates."""
    if known.public_bytes(serialization.Encoding.DER) == der:
        return True
    now = dt.datetime.now(dt.UTC)
    if any(not c.not_valid_before_utc <= now <= c.not_valid_after_utc for c in (known, server)):
        return False
    try:
        if not known.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
        server.verify_directly_issued_by(known)
    except (x509.ExtensionNotFound, ValueError, TypeError, InvalidSignature):
        return False
    return True


def _reject(folder: Path, server: x509.Certificate, der: bytes) -> Path:
    common = server.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    name = re.sub(r"[^A-Za-z0-9-]+", "_", str(common[0].value) if common else "server")[:40]
    path = folder / f"{name}_{hashlib.sha256(der).hexdigest()[:12]}.der"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            kept = sorted(folder.glob("*.der"), key=lambda p: p.stat().st_mtime)
            for old in kept[: max(0, len(kept) - MOST_REJECTED + 1)]:
                old.unlink()
            path.write_bytes(der)
    except OSError:
        return path  # the message says where it would be
    return path


def _der_length(data: bytes) -> int:
    """Of the first DER object: a chain follows it without a mark."""
    if len(data) < 4 or data[0] != 0x30:
        return len(data)
    if data[1] < 0x80:
        return 2 + data[1]
    octets = data[1] & 0x7F
    return 2 + octets + int.from_bytes(data[2 : 2 + octets])
