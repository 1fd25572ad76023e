"""Coverage-guided fuzzing of both legs: ``python -m tests.csms.fuzz_atheris CORPUS -max_total_time=600``."""

import sys

import atheris

with atheris.instrument_imports(include=["cem.csms"]):
    from tests.csms.fuzzing import play


def main():
    """Runs until told to stop; ends with a traceback and the bytes that led to it."""
    atheris.Setup(sys.argv, play)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
