"""Data and configuration of runs of a few steps, for what a run writes and reads."""

import numpy as np
from ml_collections import ConfigDict

from configs import tiny


class Images:
    """Batches of noise; something may happen before one of them."""

    def __init__(self, before=None, action=None):
        self.before, self.action = before, action

    def batches(self, start_step=0, *, process_index=0, process_count=1):
        while True:
            if start_step == self.before:
                self.action()
            start_step += 1
            clean = np.random.default_rng(start_step).uniform(size=(8, 8, 8, 3))
            yield {"clean": clean.astype(np.float32), "mask": np.ones(8, np.float32)}


def make_config(**fields):
    """The configuration of the network "conv" of ``quick_trainer``."""
    config = tiny.get_config()
    config.network.name, config.network.kwargs = "conv", ConfigDict({"norm": False})
    config.data.crop, config.log_every, config.checkpoint_every = 8, 1, 2
    config.update(fields)
    return config
