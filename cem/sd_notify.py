"""What systemd is told: ready, still in control, stopping. Plain datagrams, see sd_notify(3)."""

import contextlib
import os
import socket
from collections.abc import Mapping


class SystemdNotifier:
    """Tells the service manager; does nothing where there is none.

    The watchdog is fed by completed control cycles only (FAULTS L2), so that a process that is alive but no longer in
    control is restarted.

    Args:
        environment: Where ``NOTIFY_SOCKET`` is looked up.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._socket: socket.socket | None = None
        if address[:1] not in {"/", "@"}:
            return
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)

    def ready(self) -> None:
        """Start-up is over."""
        self._send("READY=1")

    def cycle_done(self) -> None:
        """A control cycle was completed: feeds the watchdog."""
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """One line for ``systemctl status``."""
        self._send("STATUS=" + " ".join(text.split()))

    def stopping(self) -> None:
        """An orderly stop began."""
        self._send("STOPPING=1")

    def close(self) -> None:
        """Tell nothing any more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str) -> None:
        if self._socket is None:
            return
        with contextlib.suppress(OSError):  # a full or missing socket must never trouble control
            self._socket.sendto(message.encode(), self._address)
