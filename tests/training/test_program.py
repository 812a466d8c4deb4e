"""The inputs of the compiled program."""

import jax
import numpy as np
import pytest

from configs import tiny
from lcdnet_jax.training.program import open_inputs
from lcdnet_jax.training.sharding import Partitioner


class Numbers:
    """Training data whose batch k holds the number k. ``wrap`` changes the type of the iterator."""

    def __init__(self, wrap):
        self.wrap, self.iterator = wrap, None

    def batches(self, start_step=0, *, process_index=0, process_count=1):
        self.iterator = self.wrap(
            {"clean": np.full((8, 2, 2, 3), k, np.float32)}
            for k in range(start_step, start_step + 10)
        )
        return self.iterator


class Closing:
    """An iterator with ``close`` alone, as data loaders with threads have it."""

    def __init__(self, batches):
        self.batches, self.is_closed = batches, False

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.batches)

    def close(self):
        self.is_closed = True


@pytest.mark.parametrize("wrap", [iter, lambda batches: map(dict, batches), Closing])
def test_any_iterator_is_an_input_and_is_closed_if_it_can_be(wrap):
    config = tiny.get_config()
    config.steps_per_call = 2
    partitioner = Partitioner.from_config(config, jax.devices()[:1])
    data = Numbers(wrap)
    with open_inputs(config, partitioner, data, 3) as inputs:
        first, second = next(inputs), next(inputs)
        assert wrap is not Closing or not data.iterator.is_closed
    assert wrap is not Closing or data.iterator.is_closed
    for batch, numbers in ((first, (3, 4)), (second, (5, 6))):
        assert batch["clean"].shape == (2, 8, 2, 2, 3)
        assert [int(batch["clean"][i, 0, 0, 0, 0]) for i in range(2)] == list(numbers)
