"""Bytes: the file formats themselves, each read and written in one file, and what all of them need."""
