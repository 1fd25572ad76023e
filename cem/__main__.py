"""``python -m cem``: the command ``cem``."""

from cem.cli import main

main()
