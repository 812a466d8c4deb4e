"""``python -m lcdnet_jax``: the program ``lcdnet-jax``."""

from lcdnet_jax.cli.main import main

if __name__ == "__main__":
    main()
