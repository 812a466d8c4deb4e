"""States, saving them, what a folder of checkpoints holds, and damage to files."""

import jax
import numpy as np

from lcdnet_jax.checkpoints import Checkpoints


def state(seed):
    rng = np.random.default_rng(seed)
    params = {"conv": {"kernel": rng.normal(size=(8, 6)).astype(np.float32)}}
    return {
        "params": params,
        "ema": jax.tree.map(lambda x: x + 1, params),
        "opt_state": (np.full(1, seed), {"mu": rng.normal(size=5).astype(np.float32)}),
    }


def assert_equal_trees(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def save(workdir, *steps, keep=9):
    writer = Checkpoints(workdir, keep=keep)
    for step in steps:
        writer.save(step, state(step))
        writer.finish(step)
    writer.close()


def entries(workdir):
    return sorted(path.name for path in (workdir / "checkpoints").iterdir())


def files(directory):
    return sorted(
        path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()
    )


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def replace_by_folder(path):
    path.unlink()
    path.mkdir()


def one_file(directory, item):
    """An array's bytes of an item, or a file of the checkpoint itself."""
    if not item:
        return directory / "_CHECKPOINT_METADATA"
    return max((directory / item).rglob("d/*"), key=lambda path: path.stat().st_size)
