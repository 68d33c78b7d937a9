"""The command line: thin commands over the package, one error manner, progress with an ETA."""

from opticaldr.cli.app import main

__all__ = ["main"]
