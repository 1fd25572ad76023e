"""A site that behaves: one plant behind servers that speak the real protocols.

It judges the controller, so it shares nothing with it but the site file and the picture of the site as built:
``plant`` (with ``ev`` and ``household``) is pure and needs no clock; ``truth`` writes down and judges what really flowed;
the servers (``modbus_devices``, ``mqtt_meter``, ``opcua_dso``, ``station_*``, ``cloud``) only show the plant and move
its pilots; ``site`` joins them, ``story`` says what happens when, ``python -m adapters.simulated`` runs it all.
"""
