"""Networks that read a capture."""
