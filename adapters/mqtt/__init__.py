"""MQTT: devices that publish to a broker, contacts, and what this site itself publishes there."""

from adapters.mqtt.adapter import MqttAdapter

__all__ = ["MqttAdapter"]
