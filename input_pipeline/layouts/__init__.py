"""Folder layouts in which data sets are published, one file per family."""
