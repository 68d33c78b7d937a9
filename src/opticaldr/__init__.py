"""OpticalDR: a camera you can train, and the tools to attack it honestly."""

__version__ = "0.1.0"
