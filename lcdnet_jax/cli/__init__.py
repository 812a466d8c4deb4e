"""Command-line interface: the program ``lcdnet-jax``, one file per command."""
