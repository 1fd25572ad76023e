"""``python -m tests.benchmarks [--only NAME ...] [--json FILE] [--plots DIR]``.

Every module of this folder that has ``run()`` is a benchmark and returns flat figures by name. One that also has
``plot(figures, directory)`` can draw them.
"""

import argparse
import importlib
import json
import pkgutil
import sys
import time
from pathlib import Path
from types import ModuleType

from rich.console import Console
from rich.table import Table

import tests.benchmarks


def discover() -> list[str]:
    """Names of all benchmarks."""
    names = (module.name for module in pkgutil.iter_modules(tests.benchmarks.__path__))
    return sorted(name for name in names if not name.startswith("_"))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Measure, print, write.")
    names = discover()
    parser.add_argument("--only", action="append", choices=names, help="run this one; may be given again")
    parser.add_argument("--json", type=Path, help="write all figures as one flat JSON object")
    parser.add_argument("--plots", type=Path, help="folder for plots (PNG)")
    options = parser.parse_args(arguments)
    console = Console()
    everything: dict[str, float] = {}
    for name in options.only or names:
        module: ModuleType = importlib.import_module(f"tests.benchmarks.{name}")
        if not hasattr(module, "run"):
            continue  # shared by benchmarks, not one itself
        start = time.perf_counter()
        figures: dict[str, float] = module.run()
        table = Table("figure", "value", title=f"{name} ({time.perf_counter() - start:.1f} s)", title_justify="left")
        table.columns[1].justify = "right"
        for key, value in figures.items():
            table.add_row(key, f"{value:.4g}")
        console.print(table)
        everything |= figures
        if options.plots and hasattr(module, "plot"):
            options.plots.mkdir(parents=True, exist_ok=True)
            module.plot(figures, options.plots)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
