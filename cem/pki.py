"""The site's own CA: it signs station certificates (OCPP security profile 3) and our own server certificate.

Everything is in the folder ``pki`` of the storage directory: the CA's certificate and key, what was issued, and the
revocation list, which a running controller reads again when it changes.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cem.access import prepare, write_private
from cem.errors import CemError

CA_CERTIFICATE = "ca.pem"
CA_KEY = "ca.key"
CRL = "crl.pem"
ISSUED = "issued"
CA_YEARS = 20
LEAF_DAYS = 730
LONGEST_ID = 48
_BACKDATED = timedelta(hours=1)
"""Stations' clocks are late; a certificate must not be of their future."""
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
LEAST_RSA_BITS, LEAST_EC_BITS = 2048, 256
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate of the site's CA.

    Attributes:
        identity: Common name: the station, or our host name.
        serial: In hexadecimal.
        server: It is ours, towards stations.
        until_utc: Its end.
        revoked_utc: When it was revoked, if it was.
    """

    identity: str
    serial: str
    server: bool
    until_utc: datetime
    revoked_utc: datetime | None


def folder(directory: Path) -> Path:
    """Where the CA of a storage directory is."""
    return directory / "pki"


def init(directory: Path, name: str, now: datetime) -> Path:
    """Makes the CA.

    Args:
        directory: The storage directory.
        name: Of the site, for people.
        now: Aware UTC.

    Returns:
        Its certificate, to be installed in stations.

    Raises:
        CemError: There is one already, or it cannot be written.
    """
    place = folder(directory)
    if (place / CA_KEY).exists():
        raise CemError(f"{place}: this site has a CA already; every station trusts it, so it is never replaced here")
    prepare(directory)
    prepare(place)
    prepare(place / ISSUED)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, name[:64]), x509.NameAttribute(NameOID.COMMON_NAME, "Site CA")]
    )
    certificate = (
        _builder(subject, subject, key.public_key(), now, timedelta(days=365 * CA_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_private(place / CA_KEY, _key_pem(key))
    write_private(place / CA_CERTIFICATE, _pem(certificate))
    _write_crl(place, certificate, key, (), now)
    return place / CA_CERTIFICATE


def issue(
    directory: Path, identity: str, now: datetime, *, server: bool = False, use_rsa: bool = False, days: int = LEAF_DAYS
) -> tuple[Path, Path]:
    """Issues a certificate with a new key.

    Args:
        directory: The storage directory.
        identity: The station's identity; for ``server`` the name or address that stations dial.
        now: Aware UTC.
        server: It is ours, towards stations.
        use_rsa: RSA of 3072 bits instead of ECDSA P-256, for stations that know no other.
        days: How long it holds.

    Returns:
        The certificate and its key.

    Raises:
        CemError: There is no CA, or the identity cannot be one.
    """
    if not 0 < len(identity) <= LONGEST_ID or not identity.isprintable() or "/" in identity or identity.startswith("."):
        raise CemError(
            f"{identity[:60]!r} cannot be the identity in a certificate: 1 to {LONGEST_ID} characters, no '/'"
        )
    place = folder(directory)
    ca, ca_key = _ca(place)
    key: PrivateKey = rsa.generate_private_key(65537, 3072) if use_rsa else ec.generate_private_key(ec.SECP256R1())
    certificate = _leaf(ca, ca_key, key.public_key(), identity, now, server=server, days=days)
    stem = f"{certificate.serial_number:x}"
    target = place / ISSUED / f"{stem}.pem"
    write_private(place / ISSUED / f"{stem}.key", _key_pem(key))
    write_private(target, _pem(certificate))
    return target, target.with_suffix(".key")


def sign(directory: Path, csr: str, identity: str, now: datetime) -> str:
    """Signs what a station asks for, for its own key and identity and nothing else that stands in the request.

    Returns:
        The certificate and the CA's, PEM.

    Raises:
        CemError: There is no CA, or the request cannot be granted.
    """
    try:
        request = x509.load_pem_x509_csr(csr.encode())
        names = [str(name.value) for name in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        genuine = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm) as problem:
        raise CemError(f"the request cannot be read: {problem}") from problem
    key = request.public_key()
    if not genuine:
        raise CemError("the request is not signed by the key that it names")
    if names != [identity]:
        raise CemError(f"it asks for the name {', '.join(names)[:60]!r}")
    strong = (isinstance(key, rsa.RSAPublicKey) and key.key_size >= LEAST_RSA_BITS) or (
        isinstance(key, ec.EllipticCurvePublicKey) and key.key_size >= LEAST_EC_BITS
    )
    if not strong or not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise CemError(f"its key is too weak or of another kind than RSA of {LEAST_RSA_BITS} bits or ECDSA P-256")
    place = folder(directory)
    ca, ca_key = _ca(place)
    certificate = _leaf(ca, ca_key, key, identity, now, server=False, days=LEAF_DAYS)
    write_private(place / ISSUED / f"{certificate.serial_number:x}.pem", _pem(certificate))
    return (_pem(certificate) + _pem(ca)).decode()


def _leaf(
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    key: PublicKey,
    identity: str,
    now: datetime,
    *,
    server: bool,
    days: int,
) -> x509.Certificate:
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
    organization = ca.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    subject = x509.Name([*organization, x509.NameAttribute(NameOID.COMMON_NAME, identity)])
    builder = _builder(subject, ca.subject, key, now, timedelta(days=days))
    if server:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(identity)]), critical=False)
    return (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def revoke(directory: Path, identity: str, now: datetime) -> int:
    """Revokes every certificate of an identity; returns how many.

    Raises:
        CemError: There is no CA, or nothing to revoke.
    """
    place = folder(directory)
    ca, key = _ca(place)
    revoked = {int(item.serial, 16): item.revoked_utc for item in listing(directory) if item.revoked_utc is not None}
    fresh = [item for item in listing(directory) if item.identity == identity and item.revoked_utc is None]
    if not fresh:
        raise CemError(f"{identity}: no certificate of this identity is in force; see cem pki list")
    entries = [*revoked.items(), *((int(item.serial, 16), now) for item in fresh)]
    _write_crl(place, ca, key, entries, now)
    return len(fresh)


def listing(directory: Path) -> tuple[Issued, ...]:
    """What was issued, by identity.

    Raises:
        CemError: There is no CA, or something cannot be read.
    """
    place = folder(directory)
    if not (place / CA_CERTIFICATE).exists():
        raise CemError(f"{place}: this site has no CA yet; make it by: cem pki init")
    revoked = dict(_revoked(place / CRL))
    found = []
    for path in sorted((place / ISSUED).glob("*.pem")):
        certificate = _read(path)
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        found.append(
            Issued(
                str(names[0].value),
                f"{certificate.serial_number:x}",
                ExtendedKeyUsageOID.SERVER_AUTH in purposes,
                certificate.not_valid_after_utc,
                revoked.get(certificate.serial_number),
            )
        )
    return tuple(sorted(found, key=lambda item: (item.identity, item.until_utc)))


def revoked_serials(path: Path) -> frozenset[int]:
    """Serials on a revocation list.

    Raises:
        CemError: It cannot be read.
    """
    return frozenset(serial for serial, _ in _revoked(path))


def _revoked(path: Path) -> list[tuple[int, datetime]]:
    try:
        crl = x509.load_pem_x509_crl(path.read_bytes())
    except (OSError, ValueError) as problem:
        raise CemError(f"{path}: the revocation list cannot be read: {problem}") from problem
    return [(entry.serial_number, entry.revocation_date_utc) for entry in crl]


def _read(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as problem:
        raise CemError(f"{path}: this certificate cannot be read: {problem}") from problem


def _ca(place: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    if not (place / CA_KEY).exists():
        raise CemError(f"{place}: this site has no CA yet; make it by: cem pki init")
    try:
        key = serialization.load_pem_private_key((place / CA_KEY).read_bytes(), None)
    except (OSError, ValueError, TypeError) as problem:
        raise CemError(f"{place / CA_KEY} cannot be read: {problem}") from problem
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CemError(f"{place / CA_KEY} is not the key that cem pki init made")
    return _read(place / CA_CERTIFICATE), key


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number(), now - _BACKDATED, now + life)


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca, key_encipherment=not ca, key_cert_sign=ca, crl_sign=ca,
        content_commitment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write_crl(
    place: Path,
    ca: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    entries: Sequence[tuple[int, datetime]],
    now: datetime,
) -> None:
    builder = x509.CertificateRevocationListBuilder(ca.subject, now - _BACKDATED, now + timedelta(days=365 * CA_YEARS))
    for serial, at in entries:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at.astimezone(UTC)).build()
        builder = builder.add_revoked_certificate(entry)
    write_private(place / CRL, builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
