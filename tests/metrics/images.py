"""Images that the tests of metrics compare."""

import numpy as np


def pair(rng, shape, noise=0.1):
    a = rng.random(shape)
    return a.astype(np.float32), (a + noise * rng.standard_normal(shape)).astype(np.float32)
