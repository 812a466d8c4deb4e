"""Every registered network in a Restorer, and on the command line."""

import jax
import numpy as np
import pytest

from lcdnet_jax import Restorer, image_io, inference, networks
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.cli import main as cli

# The smallest of each; a field that a network lacks is a mistake here, a network that is missing
# here is restored with its defaults.
_TINY = {
    "buifd": {"depth": 3, "features": 4},
    "dncnn": {"depth": 3, "features": 4},
    "ikc": {
        **{"channels": 1, "features": 4, "blocks": 1},
        **{"code_length": 3, "kernel_size": 5, "iterations": 2},
    },
    "kmsr": {"channels": 1, "features": 4, "blocks": 1},
    "lcdnet": {
        "channels": 1, "width": 16, "enc_blocks": (1, 1, 1, 1), "block": "naf", "use_msfm": False,
        "scam_type": "none", "sfe_type": "naf", "global_branch": "none",
    },
    "memnet": {"features": 4, "blocks": 1, "units": 1},
    "n3net": {"features": 4, "depth": 3, "neighbours": 2},
    "nafnet": {"channels": 1, "width": 4, "enc_blocks": (1, 1, 1, 1)},
    "rcan": {"scale": 2, "groups": 1, "blocks": 1, "features": 16},
    "restormer": {
        "channels": 1, "width": 4, "blocks": (1, 1, 1, 1), "refinement_blocks": 1,
        "heads": (1, 1, 1, 1),
    },
    "ridnet": {"features": 16, "blocks": 1},
    "rrdb": {"scale": 3, "blocks": 1, "features": 4, "growth": 2},
    "sadnet": {"channels": 1, "width": 4, "offset_width": 2, "groups": 2},
}  # fmt: skip


@pytest.fixture
def quickly_compiled():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.extended
@pytest.mark.usefixtures("quickly_compiled")
@pytest.mark.parametrize("name", networks.available())
def test_every_network(rng, name):
    """Whole, in tiles and as an ensemble, all by one program on frames of 32 x 32 pixels.

    Those with means over the image see whole images on frames of their own.
    """
    module = networks.create(name, **_TINY.get(name, {}))
    shapes = networks.abstract_variables(module)
    variables = jax.tree.map(lambda leaf: np.ones(leaf.shape, "f"), shapes)
    variables["params"] = jax.tree.map(
        lambda leaf: 0.05 * rng.normal(size=leaf.shape).astype("f"), shapes["params"]
    )
    restorer = Restorer(module, variables, bucket=32, tile=32, overlap=0, device="cpu")
    small, large = (rng.random(size, np.float32) for size in ((17, 23), (40, 33)))
    whole, tiled = restorer(small), restorer(large)
    scale = module.scale
    for image, result in ((small, whole), (large, tiled)):
        assert result.shape == tuple(scale * side for side in image.shape)
        assert np.isfinite(result).all()
        assert (result != image.repeat(scale, axis=0).repeat(scale, axis=1)).any()
    ensemble = Restorer(module, variables, bucket=32, ensemble=True)
    ensemble._program = restorer._program
    assert np.isfinite(ensemble(small)).all()
    bucket = module.stride if module.global_means else 32
    if module.padding != "reflect":  # the network pads by itself
        bucket = 1
    padded = inference.pad_to_bucket(small[None, ..., None], bucket)
    frame = padded.shape[1:3]
    assert len(restorer._program._compiled) == len({(32, 32), frame, frame[::-1]})
    expected = jax.jit(module.apply)(variables, padded)[0, : 17 * scale, : 23 * scale, 0]
    np.testing.assert_allclose(whole, expected, rtol=0, atol=1e-6)


@pytest.mark.slow  # compiles each of them twice
@pytest.mark.parametrize("name", networks.available())
def test_every_network_on_the_command_line(rng, tmp_path, name):
    """From exported parameters, with their card, to a file."""
    kwargs = _TINY.get(name, {})
    module = networks.create(name, **kwargs)
    variables = jax.tree.map(
        lambda leaf: 0.05 * np.abs(rng.normal(size=leaf.shape)).astype("f"),
        networks.abstract_variables(module),
    )
    weights_lib.save_directory(
        weights_lib.create_weights(name, variables, **kwargs), tmp_path / "net"
    )
    image = rng.integers(0, 256, (20, 24, 3), np.uint8)
    image_io.write(tmp_path / "in.png", image)
    files = f"{tmp_path}/in.png -o {tmp_path}/out.png --checkpoint {tmp_path}/net"
    cli.main(["restore", *files.split()])
    expected = Restorer.from_checkpoint(tmp_path / "net")(image)
    np.testing.assert_array_equal(image_io.read(tmp_path / "out.png"), expected)
