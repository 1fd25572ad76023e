"""Debian's mosquitto on a free port of 127.0.0.1, as a process that can be killed, restarted and frozen."""

import signal
import socket
import subprocess
import time
from pathlib import Path

import trustme

from tests import needs


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Broker:
    """One mosquitto.

    Args:
        folder: For its configuration.
        settings: Lines of mosquitto.conf that replace ``allow_anonymous true``.
    """

    def __init__(self, folder: Path, settings: str = "allow_anonymous true") -> None:
        self.port = free_port()
        self._config = folder / f"mosquitto-{self.port}.conf"
        self._config.write_text(f"listener {self.port} 127.0.0.1\n{settings}\n")
        self._config.chmod(0o644)
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [needs.mosquitto(), "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise AssertionError("mosquitto did not start")

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def broker_of_meter_and_cem(folder: Path) -> Broker:
    """One that knows both sides by certificate; its ACL lets the meter write ``meter/em``, us read it, and nothing else.

    Writes ``ca.pem`` and for ``server``, ``cem`` and ``meter`` a certificate (``.pem``) and a key (``.key``).
    """
    ca = trustme.CA()
    ca.cert_pem.write_to_path(folder / "ca.pem")
    for name, pair in (
        ("server", ca.issue_cert("127.0.0.1")),
        ("cem", ca.issue_cert("cem.local", common_name="cem")),
        ("meter", ca.issue_cert("meter.local", common_name="meter")),
    ):
        pair.private_key_pem.write_to_path(folder / f"{name}.key")
        pair.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
    (folder / "acl").write_text("user cem\ntopic read meter/#\nuser meter\ntopic write meter/em\n")
    (folder / "acl").chmod(0o600)
    folder.chmod(0o755)
    return Broker(
        folder,
        f"cafile {folder}/ca.pem\ncertfile {folder}/server.pem\nkeyfile {folder}/server.key\nuser root\n"
        f"require_certificate true\nuse_identity_as_username true\nacl_file {folder}/acl",
    )
