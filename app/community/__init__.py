"""Texts that agents read and write: posts and comments."""
