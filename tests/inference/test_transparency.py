import numpy as np
import pytest

from lcdnet_jax.inference import transparency


def by_hand(pixels, hidden):
    """One hidden pixel after the other: the visible pixels at the least distance, all of them."""
    visible = np.argwhere(~hidden)
    choices = {}
    for place in np.argwhere(hidden):
        distances = ((visible - place) ** 2).sum(axis=1)
        colors = []
        for near in visible[distances == distances.min()]:
            far = 2 * near - place
            inside = (far >= 0).all() and (far < hidden.shape).all()
            use = far if inside and not hidden[tuple(far)] else near
            colors.append(pixels[tuple(use)].tolist())
        choices[tuple(place)] = colors
    return choices


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (12, 17)], ids=str)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_colors_are_mirrored_from_visible_pixels(rng, monkeypatch, shape, share):
    monkeypatch.setattr(transparency, "_CHUNK", 40)  # several
    hidden = rng.random(shape) < share
    hidden.flat[rng.integers(hidden.size)] = False
    pixels = rng.random((*shape, 3), np.float32)
    before = pixels.copy()
    filled = transparency.fill_hidden_colors(pixels, hidden)
    np.testing.assert_array_equal(filled[~hidden], pixels[~hidden])
    for place, colors in by_hand(pixels, hidden).items():
        assert filled[place].tolist() in colors
    np.testing.assert_array_equal(pixels, before)


def test_a_border():
    """Noise goes on as in a mirror, up to the other side; then the border is repeated."""
    row = np.arange(8, dtype=np.uint16)[None, :, None]
    hidden = np.arange(8)[None] >= 3
    filled = transparency.fill_hidden_colors(row, hidden)
    assert filled.dtype == np.uint16
    assert filled[0, :, 0].tolist() == [0, 1, 2, 1, 0, 2, 2, 2]


def test_which_pixels_are_hidden():
    alpha = np.array([[0, 1], [255, 0]], np.uint8)
    assert transparency.find_hidden_pixels(alpha).tolist() == [[True, False], [False, True]]
    assert transparency.find_hidden_pixels(np.ones((2, 2), np.uint8)) is None
    assert transparency.find_hidden_pixels(np.zeros((2, 2), np.float32)) is None
