import numpy as np
import pytest

from lcdnet_jax import image_io
from lcdnet_jax.visualization import choose_points, draw_panel, draw_sampling

MARGIN, TEXT = 8, 16
LOW, MIDDLE, HIGH = (35, 20, 130), (225, 50, 90), (255, 235, 70)
OUTSIDE = (205, 205, 205)


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


def test_gray_is_gray(rng):
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


def map_image(height=160, width=200):
    """Every pixel's color tells its row (red) and column (green)."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.zeros_like(rows)], axis=-1) / 255


def make_sampling(rng, height, width, *, sizes=(1, 2, 4, 8), groups=2, spread=0.0):
    sampling = {}
    for size in sizes:
        h, w = -(-height // size), -(-width // size)
        positions = np.zeros((1, h, w, groups, 9, 2))
        for i, j in np.ndindex(3, 3):
            positions[..., 3 * i + j, 0] = np.arange(h)[:, None, None] + i - 1
            positions[..., 3 * i + j, 1] = np.arange(w)[:, None] + j - 1
        positions += spread * rng.normal(size=positions.shape)
        sampling[size] = (positions, rng.uniform(size=(1, h, w, groups, 9)))
    return sampling


def sampled(panel, row, column, *, width=288):
    """The picture of a point (row) and scale (column) in a panel of draw_sampling."""
    top = TEXT + 2 * MARGIN + row * (width + TEXT + 2 * MARGIN)
    left = MARGIN + column * (width + MARGIN)
    return panel[top : top + width, left : left + width].astype(int)


def decoded(picture):
    """Rows and columns of the image (first, last) that a picture of map_image shows."""
    return picture[0, 0, :2], picture[-1, -1, :2]


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize(("value", "color"), [(0.0, LOW), (0.5, MIDDLE), (1.0, HIGH)])
def test_samples_are_drawn_where_they_are_taken(rng, size, value, color):
    point = (75, 90)
    sampling = make_sampling(rng, 160, 200, sizes=(size,), groups=1)
    positions, modulation = sampling[size]
    here = (0, point[0] // size, point[1] // size)
    modulation[...] = 0.25
    modulation[(*here, 0, 5)] = value
    positions[(*here, 0, 5)] += (-2.5, 3.25)
    panel = draw_sampling(map_image(), sampling, points={"here": point})
    picture = sampled(panel, 0, 0)
    first, last = decoded(picture)
    zoom = 288 / (last - first + 1)
    assert zoom[0] == zoom[1]
    found = np.argwhere((picture == color).all(axis=-1))
    assert len(found) > 10
    center = first - 0.5 + (found.mean(axis=0) + 0.5) / zoom
    # By hand: pixel (y, x) of the scale covers rows y*size .. y*size + size - 1 of the image.
    y, x = here[1] + 0 - 2.5, here[2] + 1 + 3.25
    expected = np.array([y * size + (size - 1) / 2, x * size + (size - 1) / 2])
    np.testing.assert_allclose(center, expected, atol=0.6 / zoom[0])


def test_the_chosen_pixel_is_framed(rng):
    sampling = make_sampling(rng, 160, 200, sizes=(8,), groups=1)
    panel = draw_sampling(map_image(), sampling, points={"here": (77, 93)})
    picture = sampled(panel, 0, 0)
    first, last = decoded(picture)
    found = np.argwhere((picture == (90, 255, 90)).all(axis=-1))
    center = first - 0.5 + (found.mean(axis=0) + 0.5) * (last - first + 1) / 288
    np.testing.assert_allclose(center, (77, 93), atol=0.1)


def test_all_scales_share_a_detail_that_holds_every_sample(rng):
    points = {"one": (75, 90), "two": (60, 121)}
    sampling = make_sampling(rng, 160, 200, spread=0.6)
    panel = draw_sampling(map_image(), sampling, points=points)
    for j, (row, column) in enumerate(points.values()):
        first, last = decoded(sampled(panel, j, 0))
        for i, size in enumerate((8, 4, 2, 1)):
            again = decoded(sampled(panel, j, i))
            np.testing.assert_array_equal(again, (first, last))
            positions = sampling[size][0][0, row // size, column // size] * size + (size - 1) / 2
            assert (positions >= first).all()
            assert (positions <= last).all()
        assert (last - first).max() < 60  # and no more than that


def test_outside_the_image_is_gray(rng):
    sampling = make_sampling(rng, 160, 200)
    picture = sampled(draw_sampling(map_image(), sampling, points={"corner": (0, 199)}), 0, 0)
    np.testing.assert_array_equal(picture[0, 0], OUTSIDE)
    np.testing.assert_array_equal(picture[-1, -1], OUTSIDE)
    assert picture[-1, 0, 2] == 0  # bottom left is image


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(20, 40), (5, 7), (1, 1), (1, 90)])
@pytest.mark.parametrize("spread", [0.0, 1.0, 1e12])
def test_sampling_shape(rng, channels, size, spread):
    """Also tiny images, and offsets that lead out of this world."""
    image = rng.random((*size, channels), np.float32)
    sampling = make_sampling(rng, *size, spread=spread, groups=3)
    points = {"first": (0, 0), "last": (size[0] - 1, size[1] - 1)}
    panel = draw_sampling(image, sampling, points=points, width=40)
    assert panel.dtype == np.uint8
    assert panel.shape[0] == TEXT + 2 * MARGIN + 2 * (40 + TEXT + 2 * MARGIN) + TEXT + MARGIN
    assert panel.shape[1] >= MARGIN + 4 * (40 + MARGIN)
    again = draw_sampling(image, sampling, points=points, width=40)
    np.testing.assert_array_equal(panel, again)


def test_bad_sampling_is_explained(rng):
    image = map_image(20, 30)
    sampling = make_sampling(rng, 20, 30)
    with pytest.raises(ValueError, match=r"nothing to draw; give .* at least one point"):
        draw_sampling(image, sampling, points={})
    with pytest.raises(ValueError, match=r"nothing to draw; give .* at least one scale"):
        draw_sampling(image, {}, points={"a": (0, 0)})
    for point in ((20, 0), (0, 30), (-1, 0)):
        with pytest.raises(ValueError, match=r"'a' is .* outside the image of 20 rows and 30 col"):
            draw_sampling(image, sampling, points={"a": point})
    batch = {k: (np.repeat(p, 2, 0), np.repeat(m, 2, 0)) for k, (p, m) in sampling.items()}
    for wrong in (make_sampling(rng, 28, 30), batch, {1: (sampling[1][0], sampling[2][1])}):
        with pytest.raises(ValueError, match=r"one image of 20x30 needs .* this image alone"):
            draw_sampling(image, wrong, points={"a": (0, 0)})
    sampling[2][0][0, 0, 0, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="sampling of scale 2 holds NaN"):
        draw_sampling(image, sampling, points={"a": (0, 0)})


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("turned", [False, True])
def test_points_show_an_edge_texture_and_nothing(noise, turned):
    """Left half: a step from dark to light; right half: checks above, flat below."""
    clean = np.full((200, 300), 0.2)
    clean[:, 60:140] = 0.9
    clean[:, 140:] = 0.55
    checks = np.indices((23, 33)).sum(axis=0) % 2
    clean[:90, 170:] = np.kron(checks, np.ones((4, 4)))[:90, :130] * 0.6 + 0.2
    noisy = clean + noise * np.random.default_rng(0).normal(size=clean.shape)
    image = (noisy.T if turned else noisy)[..., None]
    points = choose_points(image)
    assert points == choose_points(image.copy())
    assert list(points) == ["edge", "texture", "flat"]
    assert all(type(number) is int for point in points.values() for number in point)
    found = {name: point[::-1] if turned else point for name, point in points.items()}
    assert abs(found["edge"][1] - 59.5) < 3
    assert found["texture"][0] < 95
    assert found["texture"][1] > 165
    assert abs(found["flat"][1] - 60) > 8
    assert abs(found["flat"][1] - 140) > 8
    assert found["flat"][0] > 95 or found["flat"][1] < 165
    for row, column in points.values():
        assert 24 <= row < image.shape[0] - 24
        assert 24 <= column < image.shape[1] - 24


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (1, 300), (49, 2)])
def test_points_of_small_and_constant_images_lie_inside(rng, size):
    for image in (rng.random((*size, 3)), np.full((*size, 1), 0.5)):
        for row, column in choose_points(image).values():
            assert 0 <= row < size[0]
            assert 0 <= column < size[1]
