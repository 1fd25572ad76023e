"""TLS towards stations and towards the cloud: contexts from the site file's paths, and what a peer's certificate says."""

import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cem.config.csms_models import ListenTls, Upstream
from cem.errors import CemError, DeviceMisconfigured

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:kRSA+AESGCM"
"""The suites that OCPP 2.0.1 Part 2 A00.FR.318 wants of a CSMS; the last without forward secrecy, for old stations."""


class ServerTls:
    """The context stations are served with; files that were renewed are taken up by ``refresh``.

    Args:
        section: Of the site file.
        folder: What its paths are relative to.
        site_ca: The site's own CA, used where ``client_ca`` is left out and it exists.

    Raises:
        DeviceMisconfigured: A file is missing or does not fit.
    """

    def __init__(self, section: ListenTls, folder: Path, site_ca: Path | None) -> None:
        chains = [(section.certificate, section.key)]
        if section.second_certificate is not None and section.second_key is not None:
            chains.append((section.second_certificate, section.second_key))
        self._chains = [(folder / certificate, folder / key) for certificate, key in chains]
        self._client_ca = folder / section.client_ca if section.client_ca is not None else site_ca
        self._client_ca_needed = section.client_ca is not None
        self.context = _context(ssl.PROTOCOL_TLS_SERVER)
        self.context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
        self._seen = self._stamps()
        self._ca_seen: int | None = None
        self._load()

    def _stamps(self) -> list[int]:
        return [_stamp(path) or 0 for chain in self._chains for path in chain]

    def _load(self) -> None:
        # First into another context: half of a renewed pair would spoil the one in use.
        for context in (_context(ssl.PROTOCOL_TLS_SERVER), self.context):
            for certificate, key in self._chains:
                _load_chain(context, certificate, key, "csms.listen.tls")
        stamp = None if self._client_ca is None else _stamp(self._client_ca)
        if self._client_ca is None or (stamp is None and not self._client_ca_needed):
            return
        if stamp != self._ca_seen:
            self._ca_seen = stamp
            _load_ca(self.context, self._client_ca, "csms.listen.tls")
            # Optional: what a station must show is decided by its security profile, after it said who it is.
            self.context.verify_mode = ssl.CERT_OPTIONAL

    def refresh(self) -> str | None:
        """Takes up files that changed; the old ones stay in use where the new ones do not fit, and why is returned."""
        stamps = self._stamps()
        ca_stamp = None if self._client_ca is None else _stamp(self._client_ca)
        if stamps == self._seen and ca_stamp == self._ca_seen:
            return None
        self._seen = stamps
        try:
            self._load()
        except DeviceMisconfigured as problem:
            return str(problem)
        return None


def upstream_context(upstream: Upstream, folder: Path) -> ssl.SSLContext | None:
    """The context an upstream is dialed with; ``None`` for ``ws://``.

    Raises:
        DeviceMisconfigured: A file is missing or does not fit.
    """
    if not upstream.url.startswith("wss://"):
        return None
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    where = f"csms.upstreams {upstream.id}"
    if upstream.ca is not None:
        _load_ca(context, folder / upstream.ca, where)
    else:
        context.load_default_certs()
    if upstream.certificate is not None:
        _load_chain(context, folder / upstream.certificate, folder / (upstream.key or upstream.certificate), where)
    return context


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_ciphers(CIPHERS)
    return context


def _load_chain(context: ssl.SSLContext, certificate: Path, key: Path, where: str) -> None:
    for path in (certificate, key):
        if _stamp(path) is None:
            raise DeviceMisconfigured(f"{where}: {path} cannot be read; paths are relative to the site file")
    try:
        context.load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError) as problem:
        raise DeviceMisconfigured(
            f"{where}: {certificate} and {key} cannot be used: {problem}. They must be PEM and belong together"
        ) from problem


def _load_ca(context: ssl.SSLContext, path: Path, where: str) -> None:
    try:
        context.load_verify_locations(path)
    except (ssl.SSLError, OSError) as problem:
        raise DeviceMisconfigured(f"{where}: {path} cannot be used as a list of CAs (PEM): {problem}") from problem


def _stamp(path: Path) -> int | None:
    try:
        with path.open("rb"):
            return path.stat().st_mtime_ns
    except OSError:
        return None


class Peer:
    """What the certificate that a station showed says; it was verified during the handshake."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        names = [value for part in told.get("subject", ()) for kind, value in part if kind == "commonName"]
        self.common_name: str | None = str(names[0]) if len(names) == 1 else None
        self.serial = int(str(told.get("serialNumber") or "0"), 16)

    @classmethod
    def of(cls, transport: Any) -> "Peer | None":
        """Of a connection; ``None`` where it showed none."""
        told = transport.get_extra_info("peercert")
        return cls(told) if told else None


def encrypted(transport: Any) -> bool:
    """The connection is under TLS."""
    return transport.get_extra_info("ssl_object") is not None


class Revoked:
    """Serials that the site's own CA has revoked, read again when its list changes.

    Args:
        path: The list.
        read: Reads it.
    """

    def __init__(self, path: Path | None, read: Callable[[Path], frozenset[int]]) -> None:
        self._path = path
        self._read = read
        self._stamp: int | None = None
        self._serials: frozenset[int] = frozenset()

    def __contains__(self, serial: int) -> bool:
        stamp = None if self._path is None else _stamp(self._path)
        if stamp != self._stamp and self._path is not None and stamp is not None:
            # A list that cannot be read leaves what was known; nobody comes back in by a damaged file.
            try:
                self._serials = self._read(self._path)
                self._stamp = stamp
            except CemError:
                pass
        return serial in self._serials
