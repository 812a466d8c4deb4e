"""Command-line interface: the program ``lcdnet-jax``."""

from lcdnet_jax.cli.main import main

__all__ = ["main"]
