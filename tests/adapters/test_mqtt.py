"""MQTT against a real mosquitto: values, signs, nonsense, and the broker's own deaths."""

import asyncio
import contextlib
import datetime as dt
import json
import logging
import subprocess
import threading
import time

import paho.mqtt.client as paho
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from paho.mqtt.publish import single

import adapters
from adapters.mqtt import MqttAdapter
from adapters.mqtt.adapter import GATHER_S, _Latest
from cem.config.models import Device
from cem.errors import DeviceMisconfigured, DeviceRefused, DeviceUnavailable
from tests.adapters.broker import Broker, free_port
from tests.adapters.fault_proxy import FaultProxy
from tests.adapters.field import CLOCK, fresh, running, until

JSON_METER = {
    "power_l1_w": {"topic": "house/em", "path": "em.p.0"},
    "power_l2_w": {"topic": "house/em", "path": "em.p.1"},
    "power_l3_w": {"topic": "house/em", "path": "em.p.2"},
    "current_l1_a": {"topic": "house/em", "path": "em.i1"},
    "current_l2_a": {"topic": "house/em", "path": "em.i2"},
    "current_l3_a": {"topic": "house/em", "path": "em.i3"},
    "energy_wh": {"topic": "house/em", "path": "kwh", "scale": 1000},
}
GOOD = {"em": {"p": [1150, -690, "230.0"], "i1": 5, "i2": 3, "i3": 1}, "kwh": 1.5}


@pytest.fixture
def broker(tmp_path):
    broker = Broker(tmp_path)
    yield broker
    broker.kill()


@pytest.fixture
def say(broker):
    """Publish as an independent client would."""
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()

    def publish(topic, payload, *, retain=False):
        text = payload if isinstance(payload, str | bytes) else json.dumps(payload)
        client.publish(topic, text, qos=1, retain=retain).wait_for_publish(2)

    yield publish
    client.disconnect()
    client.loop_stop()


def make_device(port, values=JSON_METER, *, name="meter", role="household_meter", connection=None, **more):
    broker = {"kind": "mqtt", "host": "127.0.0.1", "port": port, **(connection or {})}
    return Device.model_validate({"id": name, "role": role, "connection": broker, "values": values, **more})


def make(*devices) -> MqttAdapter:
    return adapters.create("mqtt", devices[0].connection, devices, CLOCK, lambda: None)


async def repeat(say, topic, payload, adapter, condition, timeout_s=10.0):
    """Publish until the adapter has heard it (its subscription may still be under way)."""
    ended = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ended, "did not happen in time"
        await asyncio.to_thread(say, topic, payload)
        await asyncio.sleep(0.05)


async def test_json_by_path_with_signs_from_the_power(broker, say):
    adapter = make(make_device(broker.port))
    async with running(adapter):
        assert "nothing heard yet on house/em" in adapter.problems()["meter"]
        before = time.monotonic()
        await repeat(say, "house/em", GOOD, adapter, adapter.measurements)
        found = adapter.measurements()["meter"]
        assert before <= found.taken_s <= time.monotonic()
    assert found.power_w == (1150, -690, 230)
    assert found.current_a == (5, -3, 1)
    assert found.total_power_w == 690
    assert found.energy_wh == 1500
    assert adapter.problems() == {}


async def test_plain_numbers_one_topic_each_and_a_turned_sign(broker, say):
    values = {f"power_l{n}_w": {"topic": f"em/{n}", "scale": -1} for n in (1, 2, 3)}
    adapter = make(make_device(broker.port, values))
    async with running(adapter):
        await repeat(say, "em/1", " 100.5\n", adapter, lambda: not adapter.problems() or adapter._devices[0].values)
        assert adapter.measurements() == {}  # a missing phase is not 0
        say("em/2", "-200")
        say("em/3", "3e2")
        await until(adapter.measurements)
        assert adapter.measurements()["meter"].power_w == (-100.5, 200, -300)
        first = adapter.measurements()["meter"].taken_s
        say("em/1", "90")
        say("em/2", "90")  # em/3 fell silent: the sample stays as old as em/3
        await until(lambda: adapter.measurements()["meter"].power_w == (-90, -90, -300))
        third = adapter.measurements()["meter"].taken_s
        await asyncio.sleep(0.3)
        say("em/1", "80")
        await until(lambda: adapter.measurements()["meter"].power_w.l1 == -80)
        assert adapter.measurements()["meter"].taken_s == third
        assert third >= first


@pytest.mark.parametrize(
    "nonsense",
    ['{"em": {"p": [1150', "16,0", b"\xff\xfe\x00", '{"em": {"p": [NaN, 1, 1], "i1": 1}}', "[" * 5000, "null", '{"em": 5}'],
)  # fmt: skip
async def test_malformed_payload_is_missing_and_told_once(broker, say, caplog, nonsense):
    adapter = make(make_device(broker.port))
    with caplog.at_level(logging.WARNING):
        async with running(adapter):
            await repeat(say, "house/em", GOOD, adapter, adapter.measurements)
            kept = adapter.measurements()["meter"]
            for _ in range(3):
                say("house/em", nonsense)
                await asyncio.sleep(0.05)
            await until(lambda: "meter" in adapter.problems())
            assert adapter.measurements()["meter"].power_w == kept.power_w
            assert adapter.measurements()["meter"].taken_s <= time.monotonic()
            assert "check topic and path" in adapter.problems()["meter"]
            say("house/em", GOOD)
            await until(lambda: not adapter.problems())
    assert len([r for r in caplog.records if "cannot read" in r.getMessage()]) == 1


async def test_a_retained_message_is_not_a_sign_of_life(broker, say):
    say("house/em", GOOD, retain=True)
    adapter = make(make_device(broker.port))
    async with running(adapter):
        await asyncio.sleep(0.7)
        assert adapter.measurements() == {}
        await repeat(say, "house/em", GOOD, adapter, adapter.measurements)  # the same, live


class Counted(_Latest):
    """What comes in on the network thread, and what of it the loop is given, as it passes."""

    came = given = 0

    def put(self, *message, **more):
        Counted.came += 1
        return super().put(*message, **more)

    def take(self):
        found = super().take()
        Counted.given += len(found)
        return found


async def test_a_flood_is_coalesced_and_the_loop_stays_free(broker, say, monkeypatch):
    """L9: latest value only. By counts and CPU time, for on a busy machine every wait is long."""
    monkeypatch.setattr("adapters.mqtt.adapter._Latest", Counted)
    flood_of, reached = 20_000, 2_000
    adapter = make(make_device(broker.port))
    async with running(adapter):
        await repeat(say, "house/em", GOOD, adapter, adapter.measurements)
        flood = paho.Client(paho.CallbackAPIVersion.VERSION2)
        flood.connect("127.0.0.1", broker.port)
        flood.loop_start()
        payload = json.dumps(GOOD)

        def pour():
            for _ in range(flood_of):
                flood.publish("house/em", payload)

        thread = threading.Thread(target=pour)
        came, given, began_s = Counted.came, Counted.given, time.monotonic()
        cpu_s, loop_cpu_s = time.process_time(), time.thread_time()
        most = 0  # messages that came in between two turns of the loop
        thread.start()
        while thread.is_alive() or Counted.came - came < reached:
            before = Counted.came
            await asyncio.sleep(0.01)
            most = max(most, Counted.came - before)
        thread.join()
        share = (time.thread_time() - loop_cpu_s) / (time.process_time() - cpu_s)
        took_s = time.monotonic() - began_s
        assert Counted.given - given <= took_s / GATHER_S + 2, "the loop is given more than the latest value"
        assert most < flood_of / 4, "the flood went by while the loop stood"
        assert share < 0.15, "the loop works on the flood"
        flood.disconnect()
        flood.loop_stop()
        last = {**GOOD, "kwh": 9.0}
        await repeat(say, "house/em", last, adapter, lambda: adapter.measurements()["meter"].energy_wh == 9000)


async def test_dead_broker_at_the_start_then_killed_and_restarted(tmp_path, caplog):
    device = make_device(free_port())
    adapter = make(device)
    with pytest.raises(DeviceUnavailable, match="cannot be reached"):
        await asyncio.wait_for(adapter.run(), 5)
    broker = Broker(tmp_path)
    adapter = make(make_device(broker.port))

    async def publish_for_ever():
        while True:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(single, "house/em", json.dumps(GOOD), hostname="127.0.0.1", port=broker.port)
            await asyncio.sleep(0.1)

    talking = asyncio.create_task(publish_for_ever())
    try:
        async with running(adapter):
            await fresh(adapter)
            broker.kill()
            await asyncio.sleep(0.5)
            kept = adapter.measurements()["meter"]
            assert kept.taken_s < time.monotonic() - 0.3
            broker.start()
            await fresh(adapter, timeout_s=6)
    finally:
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)
        broker.kill()
    assert len([r for r in caplog.records if "was lost" in r.getMessage()]) == 1


async def test_a_frozen_broker_is_noticed_by_the_keepalive(broker, monkeypatch):
    monkeypatch.setattr("adapters.mqtt.link.KEEPALIVE_S", 1)
    adapter = make(make_device(broker.port))
    run = asyncio.create_task(adapter.run())
    await asyncio.sleep(0.5)
    broker.freeze()
    with pytest.raises(DeviceUnavailable, match="was lost"):
        await asyncio.wait_for(run, 6)
    broker.thaw()


async def test_a_black_hole_delays_nobody(broker, say):
    async with FaultProxy(broker.port) as proxy:
        proxy.black_hole = True
        hanging = make(make_device(proxy.port, name="hanging"))
        adapter = make(make_device(broker.port))
        async with running(hanging), running(adapter):
            await repeat(say, "house/em", GOOD, adapter, adapter.measurements)
            for _ in range(20):
                before = time.monotonic()
                await asyncio.sleep(0.02)
                assert time.monotonic() - before < 0.8
            assert hanging.measurements() == {}


async def test_password_is_needed_and_never_shown(tmp_path, caplog):
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(passwords), "cem", "right-secret"], check=True)
    passwords.chmod(0o644)
    tmp_path.chmod(0o755)
    broker = Broker(tmp_path, f"allow_anonymous false\npassword_file {passwords}\nuser root")
    try:
        wrong = make(make_device(broker.port, connection={"username": "cem", "password": "wrong-secret"}))
        with pytest.raises(DeviceRefused, match="refuses us") as refused:
            await asyncio.wait_for(wrong.run(), 6)
        assert "secret" not in str(refused.value) + caplog.text
        right = make(make_device(broker.port, connection={"username": "cem", "password": "right-secret"}))
        run = asyncio.create_task(right.run())
        await asyncio.sleep(0.5)
        assert not run.done()
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
    finally:
        broker.kill()


# paho leaves the socket of a failed handshake to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_tls_with_a_stranger_is_refused(tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + dt.timedelta(1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = serialization.Encoding.PEM
    (tmp_path / "cert.pem").write_bytes(certificate.public_bytes(pem))
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    tls = f"allow_anonymous true\ncertfile {tmp_path}/cert.pem\nkeyfile {tmp_path}/key.pem\nuser root"
    broker = Broker(tmp_path, tls)
    try:
        adapter = make(make_device(broker.port, connection={"tls": True}))
        with pytest.raises(DeviceUnavailable, match="certificate verify failed"):
            await asyncio.wait_for(adapter.run(), 6)
    finally:
        broker.kill()


def test_wildcards_are_refused():
    with pytest.raises(DeviceMisconfigured, match="without \\+ and #"):
        make(make_device(1883, {"total_power_w": {"topic": "house/+/power"}}))
