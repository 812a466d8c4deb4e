"""Cost of stochastic frequency masking, on the device and on the host; one JSON line per case.

    python -m benchmarks.bench_sfm                # about a minute and a half on 2 CPU cores
    python -m benchmarks.bench_sfm --quick

Every patch is masked (rate 1): at the usual rate of one half the device does the same work, the
host half of it. The peer is the authors' way: on the host, one image after the other, by
scipy.fft. The share of a training step is that of SADNet `small` on the same patches.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from scipy import fft

from benchmarks import Result, compare_with_peer, run_cases
from configs import sadnet_small
from lcdnet_jax import config as config_lib
from lcdnet_jax import sfm
from lcdnet_jax.training import create_state, make_optimizer, make_train_step


def main() -> None:
    """Runs the cases, ``--seconds`` each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--crop", type=int, default=96, help="side of a patch")
    parser.add_argument("--batch", type=int, default=16, help="patches a batch")
    parser.add_argument("--seconds", type=float, default=15.0, help="time per case")
    parser.add_argument("--quick", action="store_true", help="two seconds per case")
    options = parser.parse_args()
    seconds = 2.0 if options.quick else options.seconds
    shape = (options.batch, options.crop, options.crop, 3)
    clean = np.random.default_rng(0).uniform(size=shape).astype(np.float32)
    peer_seconds = functools.cache(
        lambda: _median_seconds(lambda: _mask_one_by_one(clean), seconds)
    )
    cases = {
        "on the device": functools.partial(
            _measure_masking, _prepare_on_device, clean, peer_seconds, seconds
        ),
        "on the host": functools.partial(
            _measure_masking, _prepare_on_host, clean, peer_seconds, seconds
        ),
        "training step": functools.partial(_measure_share_of_step, clean, seconds),
    }
    run_cases("sfm", list(cases.items()))


def _measure_masking(
    prepare: Callable[[np.ndarray], Callable[[], object]],
    clean: np.ndarray,
    peer_seconds: Callable[[], float],
    seconds: float,
) -> Result:
    """Patches masked a second."""
    count = len(clean)
    ours = count / _median_seconds(prepare(clean), seconds)
    peer = count / peer_seconds()
    return {
        "value": round(ours, 1),
        "unit": "patches/s",
        **compare_with_peer(ours, "scipy.fft, one by one", peer, is_rate=True),
        "patch": list(clean.shape[1:]),
    }


def _prepare_on_device(clean: np.ndarray) -> Callable[[], object]:
    mask = jax.jit(functools.partial(sfm.stochastic_frequency_mask, rate=1.0))
    key, images = jax.random.key(0), jnp.asarray(clean)
    return lambda: jax.block_until_ready(mask(key, images))


def _prepare_on_host(clean: np.ndarray) -> Callable[[], object]:
    """As in training: a stage of tf.data that maps over single images, in parallel."""
    from input_pipeline import tf_ops  # with TensorFlow, which the other cases do without
    from input_pipeline.tensorflow_cpu import tf

    def mask(number: tf.Tensor) -> tf.Tensor:
        seed = tf.stack([tf.constant(3, tf.int64), number])
        image = tf.ensure_shape(tf.gather(images, number % len(clean)), clean.shape[1:])
        return tf_ops.mask_frequencies(image, seed, rate=1.0)

    images = tf.constant(clean)
    stage = tf.data.Dataset.range(np.iinfo(np.int64).max)
    stage = stage.map(mask, num_parallel_calls=tf.data.AUTOTUNE).batch(len(clean))
    batches = stage.as_numpy_iterator()
    return lambda: next(batches)


def _mask_one_by_one(clean: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    _, height, width, channels = clean.shape
    radius, limit = sfm.radii(height, width), sfm.max_radius(height, width)
    for image in clean:
        below, above = 0.15 * np.abs(rng.standard_normal(2))
        mask = ~((radius > limit * (0.85 - below)) & (radius < limit * (0.85 + above)))
        for channel in range(channels):
            fft.idctn(fft.dctn(image[..., channel], norm="ortho") * mask, norm="ortho")


def _measure_share_of_step(clean: np.ndarray, seconds: float) -> Result:
    """Time of masking alone as a share of a training step with it.

    The difference of steps with and without masking would be lost between two compilations.
    """
    config = sadnet_small.get_config()
    config.sfm.rate = 1.0
    config.batch_size = len(clean)
    module, tx = config_lib.network(config), make_optimizer(config)
    state = create_state(jax.random.key(0), module, tx, ema=True)
    step = jax.jit(make_train_step(module, tx, config))
    batch = {"clean": jnp.asarray(clean), "mask": jnp.ones(len(clean))}
    whole = _median_seconds(lambda: jax.block_until_ready(step(state, batch)), seconds)
    return {
        "value": round(100 * _median_seconds(_prepare_on_device(clean), seconds) / whole, 2),
        "unit": "% of a step",
        "step_in_ms": round(1e3 * whole, 1),
        "device": jax.devices()[0].device_kind,
    }


def _median_seconds(run: Callable[[], object], seconds: float) -> float:
    """Median time of a warm call."""
    run()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


if __name__ == "__main__":
    main()
