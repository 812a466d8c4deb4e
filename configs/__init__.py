"""Experiment configurations.

default.py holds every field with a comment. Each other file overrides a few fields for one
experiment.
"""
