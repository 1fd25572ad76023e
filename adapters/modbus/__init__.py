"""Modbus devices: what they are is data in ``adapters/modbus_maps``, how they are read is here."""
