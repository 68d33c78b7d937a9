"""Data adapters: folder or archive in, FaceSet out."""
