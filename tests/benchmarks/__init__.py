"""Figures measured on this machine. A module here with ``run()`` is one benchmark; its name is the module's."""
