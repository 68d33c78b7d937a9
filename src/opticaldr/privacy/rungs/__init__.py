"""The rungs of the attack ladder, one file each (privacy.md 5.1)."""
