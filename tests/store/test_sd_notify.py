"""What systemd hears, on a real socket."""

import socket

import pytest

from cem.sd_notify import SystemdNotifier


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_hears_ready_watchdog_and_stop(tmp_path, abstract):
    address = f"@cem-test-{tmp_path.name}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address.replace("@", "\0"))
        systemd.settimeout(2)
        notifier = SystemdNotifier({"NOTIFY_SOCKET": address})
        notifier.ready()
        notifier.cycle_done()
        notifier.status("2 zones,\n3 EVSEs")
        notifier.stopping()
        heard = [systemd.recv(200) for _ in range(4)]
        notifier.close()
        notifier.cycle_done()
    assert heard == [b"READY=1", b"WATCHDOG=1", b"STATUS=2 zones, 3 EVSEs", b"STOPPING=1"]


def test_a_dead_or_flooded_service_manager_never_blocks(tmp_path):
    address = str(tmp_path / "notify")
    notifier = SystemdNotifier({"NOTIFY_SOCKET": address})
    notifier.cycle_done()  # nobody there
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        for _ in range(5000):  # nobody reads
            notifier.cycle_done()
    notifier.close()


def test_without_a_service_manager_nothing_happens():
    notifier = SystemdNotifier({})
    notifier.ready()
    notifier.cycle_done()
    notifier.close()
