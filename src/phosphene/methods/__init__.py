"""Decoding methods, one readable file each."""
