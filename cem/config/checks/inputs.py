"""Contacts and virtual meters: what they need to be worked out."""

from collections.abc import Iterator

from cem.config.contact_models import ContactorSection
from cem.config.draft import Draft, Finding
from cem.config.formula import CARS, terms
from cem.config.models import Virtual
from cem.config.mqtt_models import MqttBroker
from cem.config.scalars import did_you_mean


def contacts_can_be_read(draft: Draft) -> Iterator[Finding]:
    for i, contact in draft.contacts:
        if not isinstance(contact.connection, MqttBroker):
            if contact.address is None:
                yield Finding(("contacts", i), f"contact '{contact.id}' is read by Modbus and needs 'address'")
            continue
        if contact.topic is None:
            yield Finding(("contacts", i), f"contact '{contact.id}' is heard by MQTT and needs 'topic'")
            continue
        if contact.closed.strip().casefold() == contact.open.strip().casefold():
            yield Finding(("contacts", i, "open"), f"contact '{contact.id}' says the same closed and open")
        topics = {"topic": contact.topic}
        if contact.availability is not None:
            topics["availability"] = contact.availability.topic
        for key, topic in topics.items():
            if set(topic) & {"#", "+"}:
                yield Finding(("contacts", i, key), f"topic '{topic[:60]}' has a wildcard; a contact has one topic")


def contacts_say_what_they_limit(draft: Draft) -> Iterator[Finding]:
    for i, contact in draft.contacts:
        if contact.kind == "ripple_control" and contact.limit_w is None:
            yield Finding(
                ("contacts", i), f"contact '{contact.id}' needs 'limit_w': the power that is left while it acts"
            )
        if contact.kind != "ripple_control" and contact.limit_w is not None:
            yield Finding(
                ("contacts", i, "limit_w"),
                f"contact '{contact.id}' takes our EVSEs to 0 A; limit_w is for the kind ripple_control",
            )
        if contact.missing == "inactive" and contact.kind != "ripple_control":
            yield Finding(
                ("contacts", i, "missing"),
                f"while contact '{contact.id}' cannot be read, cars go on charging: a cut wire in an island would not stop them",
                "warning",
            )


def contactors_feed_stations(draft: Draft) -> Iterator[Finding]:
    names = draft.names("stations")
    for i, contactor in draft.contactors:
        for j, name in enumerate(contactor.stations):
            if name not in names and "stations" in draft.complete:
                guess = did_you_mean(name, names) or ""
                yield Finding(("contactors", i, "stations", j), f"no station '{name}'{guess}")
        yield from _reached(i, contactor)
        if contactor.closed_when == "off" and contactor.feedback is None and contactor.feedback_topic is None:
            yield Finding(
                ("contactors", i),
                f"contactor '{contactor.id}' opens by an output that is switched on, and nothing shows that it did: wire its feedback",
                "warning",
            )


def _reached(i: int, contactor: ContactorSection) -> Iterator[Finding]:
    if not isinstance(contactor.connection, MqttBroker):
        if contactor.address is None:
            yield Finding(("contactors", i), f"contactor '{contactor.id}' over Modbus needs the address of its coil")
        return
    if contactor.topic is None or contactor.state_topic is None:
        yield Finding(
            ("contactors", i),
            f"contactor '{contactor.id}' over MQTT needs topic, where it is told, and state_topic, where it says what it does",
        )


def formulas_can_be_worked_out(draft: Draft) -> Iterator[Finding]:
    """A virtual meter may use devices that are read, not other virtual ones: no circles, one moment."""
    virtual = {device.id for _, device in draft.devices if isinstance(device.connection, Virtual)}
    names = draft.names("devices")
    for i, device in draft.devices:
        if not isinstance(device.connection, Virtual):
            continue
        for j, formula in enumerate(device.connection.formulas):
            path = ("devices", i, "connection", "formulas", j)
            try:
                used = [name for _, name in terms(formula)]
            except ValueError as error:
                yield Finding(path, str(error))
                continue
            for name in used:
                if name in virtual:
                    yield Finding(path, f"'{name}' is itself worked out; name the devices that are read")
                elif name != CARS and name not in names and "devices" in draft.complete:
                    guess = did_you_mean(name, [*names, CARS]) or f"; there are: {', '.join([*names, CARS][:8])}"
                    yield Finding(path, f"no device '{name}'{guess}")


RULES = (contacts_can_be_read, contactors_feed_stations, contacts_say_what_they_limit, formulas_can_be_worked_out)
