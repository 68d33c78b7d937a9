"""Attacks on the camera, their statistics; nothing here imports the defender's code."""
