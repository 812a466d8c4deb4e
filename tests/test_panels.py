import numpy as np
import pytest

from lcdnet_jax import image_io
from lcdnet_jax.panels import draw_panel

MARGIN, TEXT = 8, 16


def panel_of(clean, *, width=40, captions=("degraded", "restored", "clean"), pictures=None):
    pictures = pictures or [clean] * len(captions)
    return draw_panel(list(zip(captions, pictures, strict=True)), clean=clean, width=width)


def whole(panel, i, height, *, width=40):
    """The i-th picture of the upper row."""
    left = MARGIN + i * (width + MARGIN)
    return panel[MARGIN : MARGIN + height, left : left + width]


def detail(panel, i, height, *, width=40):
    """The i-th enlarged detail."""
    left, top = MARGIN + i * (width + MARGIN), height + 2 * MARGIN
    return panel[top : top + width, left : left + width]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(20, 40), (5, 7), (1, 1), (1, 300), (2, 90), (90, 2)])
def test_shape(rng, size, channels):
    """Also tiny, wide and tall images, whose frame is less than a pixel."""
    panel = panel_of(rng.random((*size, channels), np.float32))
    height = max(1, round(size[0] * 40 / size[1]))
    assert panel.shape == (height + 40 + TEXT + 4 * MARGIN, 3 * (40 + MARGIN) + MARGIN, 3)
    assert panel.dtype == np.uint8


def test_pictures_stand_where_they_should():
    """At the panel's own width nothing is resampled; the frame of the detail lies on top."""
    rng = np.random.default_rng(0)
    pictures = [rng.random((20, 40, 3)) for _ in range(3)]
    panel = panel_of(pictures[0], pictures=pictures)
    for i, picture in enumerate(pictures):
        expected = image_io.to_uint8(picture)
        equal = (whole(panel, i, 20) == expected).all(axis=-1)
        framed = 2 * (20 + 20) - 4  # the detail is as high as the image: 20 x 20
        assert 0 < (~equal).sum() <= framed
        np.testing.assert_array_equal(
            whole(panel, i, 20)[~equal], np.full(((~equal).sum(), 3), (230, 60, 40))
        )


def test_detail_is_where_the_structure_is():
    clean = np.full((40, 400, 3), 0.5, np.float32)
    clean[::2, 300:330] = 1.0
    panel = draw_panel([("clean", clean)], clean=clean, width=40)
    enlarged = detail(panel, 0, 4)
    assert (enlarged == 255).any()
    assert set(np.unique(enlarged)) == {128, 255}  # the pixels themselves, not interpolated


def test_grey_is_grey(rng):
    panel = panel_of(rng.random((20, 40, 1), np.float32))
    enlarged = detail(panel, 0, 20)
    assert (enlarged == enlarged[..., :1]).all()


def test_values_outside_the_range_are_clipped(rng):
    clean = rng.random((20, 40, 3), np.float32)
    wild = rng.uniform(-3, 4, (20, 40, 3)).astype(np.float32)
    panel = panel_of(clean, pictures=[wild] * 3)
    np.testing.assert_array_equal(panel, panel_of(clean, pictures=[wild.clip(0, 1)] * 3))
    assert {0, 255} <= set(np.unique(whole(panel, 1, 20)))


def test_captions_are_drawn_below(rng):
    clean = rng.random((20, 40, 3), np.float32)
    first, second = panel_of(clean), panel_of(clean, captions=("", "restored", "clean"))
    rows = np.flatnonzero((first != second).any(axis=(1, 2)))
    assert rows.min() >= MARGIN + 20 + MARGIN + 40
    columns = np.flatnonzero((first != second).any(axis=(0, 2)))
    assert columns.max() < 2 * 40  # the changed one is the first


def test_is_deterministic(rng):
    clean = rng.random((20, 30, 3), np.float32)
    np.testing.assert_array_equal(panel_of(clean), panel_of(clean))


def test_one_picture_and_the_usual_width(rng):
    clean = rng.random((30, 60, 3), np.float32)
    assert draw_panel([("one", clean)], clean=clean).shape == (192 + 384 + 48, 400, 3)
