"""Pictures for inspection: panels that compare images, and plots of deformable sampling."""

from collections.abc import Mapping, Sequence

import numpy as np
import scipy.ndimage
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont

from lcdnet_jax import image_io
from lcdnet_jax.messages import format_count

_MARGIN = 8
_TEXT = 16
_INK, _PAPER, _FRAME = (30, 30, 30), (255, 255, 255), (230, 60, 40)
_OUTSIDE, _POINT = (205, 205, 205), (90, 255, 90)
# Colors of modulation 0, 0.5 and 1, from dark to light, for readers without color vision.
_RAMP = np.array([(35, 20, 130), (225, 50, 90), (255, 235, 70)], np.float64)
_LEGEND = 650
_FINER = 4  # marks are drawn at this scale and reduced, because Pillow does not antialias them


def draw_panel(
    pictures: Sequence[tuple[str, np.ndarray]], *, clean: np.ndarray, width: int = 384
) -> np.ndarray:
    """Draws images in a row with captions, each with an enlarged detail below.

    The detail is the square with the strongest gradients in ``clean``. A frame marks it in every
    image.

    Args:
        pictures: Captions and images ``[H, W, C]``, C = 1 or 3, float, clipped to [0, 1]. Smaller
            images are enlarged to the size of ``clean`` by bicubic interpolation.
        clean: Clean image ``[H, W, C]``, float in [0, 1], used to choose the detail.
        width: Width of each image in the panel, pixels.

    Returns:
        The panel ``[H', W', 3]`` uint8.
    """
    height_in, width_in = clean.shape[:2]
    height = max(1, round(height_in * width / width_in))
    top, left, side = _find_detail(clean)
    panel = Image.new(
        "RGB",
        (
            len(pictures) * (width + _MARGIN) + _MARGIN,
            height + width + _TEXT + 4 * _MARGIN,
        ),
        _PAPER,
    )
    draw = ImageDraw.Draw(panel)
    for i, (caption, picture) in enumerate(pictures):
        x, y = _MARGIN + i * (width + _MARGIN), _MARGIN
        shown = Image.fromarray(image_io.convert_channels(image_io.to_uint8(picture), 3))
        if shown.size != (width_in, height_in):
            shown = shown.resize((width_in, height_in), Image.Resampling.BICUBIC)
        whole = shown.resize((width, height), Image.Resampling.LANCZOS)
        detail = shown.crop((left, top, left + side, top + side))
        panel.paste(whole, (x, y))
        scale = width / width_in
        frame_x, frame_y, frame = x + left * scale, y + top * scale, max(side * scale - 1, 0)
        draw.rectangle([frame_x, frame_y, frame_x + frame, frame_y + frame], outline=_FRAME)
        # Nearest neighbor shows the pixels themselves.
        panel.paste(
            detail.resize((width, width), Image.Resampling.NEAREST), (x, y + height + _MARGIN)
        )
        font = ImageFont.load_default(size=_TEXT - 2)
        draw.text((x, y + height + width + 2 * _MARGIN), caption, fill=_INK, font=font)
    return np.asarray(panel)


def choose_points(image: np.ndarray) -> dict[str, tuple[int, int]]:
    """Chooses a pixel at an edge, one in texture and one in a flat region.

    The choice uses the eigenvalues of the structure tensor (Harris and Stephens, "A combined corner
    and edge detector", 1988). At an edge the difference of the eigenvalues is largest, in texture
    the smaller eigenvalue, and in a flat region their sum is smallest. The choice is deterministic.

    Args:
        image: Image ``[H, W, C]``, C = 1 or 3, float in [0, 1]. It may be noisy.

    Returns:
        (row, column) of "edge", "texture" and "flat", at least 24 pixels from the borders if the
        image is large enough. In an image without contrast all three are equal.
    """
    gray = np.asarray(image, np.float64).mean(axis=-1)
    dy, dx = (scipy.ndimage.gaussian_filter(gray, 1.5, order=order) for order in ((1, 0), (0, 1)))
    yy, xx, yx = (scipy.ndimage.gaussian_filter(p, 5) for p in (dy * dy, dx * dx, dy * dx))
    spread = np.hypot(yy - xx, 2 * yx)  # difference of the eigenvalues; their sum is yy + xx
    top, left = (min(24, (side - 1) // 2) for side in gray.shape)
    inner = (slice(top, gray.shape[0] - top), slice(left, gray.shape[1] - left))
    points = {}
    for name, score in (("edge", spread), ("texture", yy + xx - spread), ("flat", -yy - xx)):
        row, column = np.unravel_index(score[inner].argmax(), score[inner].shape)
        points[name] = (top + int(row), left + int(column))
    return points


def draw_sampling(
    image: np.ndarray,
    sampling: Mapping[int, tuple[ArrayLike, ArrayLike]],
    *,
    points: Mapping[str, tuple[int, int]],
    width: int = 288,
) -> np.ndarray:
    """Draws the sampling positions of a deformable network around chosen pixels.

    The panel has one row for each point and one column for each scale, coarse to fine. All columns
    of a row show the same enlarged detail. Hollow squares are the regular 3x3 grid of the scale
    around the point. Dots are the learned positions of all groups, colored by modulation, and lines
    connect squares with their dots. The area outside the image is gray; the network reads zeros
    there. Offsets longer than the image are shortened to its length.

    Args:
        image: Image ``[H, W, C]``, C = 1 or 3, float, clipped to [0, 1].
        sampling: Positions and modulation by downsampling factor ``size``, as ``SADNet.sampling``
            returns them for one image. Positions are ``[1, ceil(H / size), ceil(W / size), G, 9,
            2]``, (row, column) in pixels of that scale. Modulation is ``[1, ..., G, 9]`` in [0, 1].
        points: Pixels (row, column) of ``image`` by caption.
        width: Side of each picture in the panel, pixels.

    Returns:
        The panel ``[H', W', 3]`` uint8.

    Raises:
        ValueError: If there are no points or scales, a point lies outside the image, or the
            sampling belongs to another image size, to several images or is not finite.
    """
    fields = {size: (np.asarray(p), np.asarray(m)) for size, (p, m) in sampling.items()}
    _check_sampling(image.shape[:2], fields, points)
    scales = sorted(fields, reverse=True)
    color = image_io.convert_channels(image_io.to_uint8(image), 3)
    font = ImageFont.load_default(size=_TEXT - 2)
    step_x, step_y = width + _MARGIN, width + _TEXT + 2 * _MARGIN
    left, top = _MARGIN, _TEXT + 2 * _MARGIN
    panel = Image.new(
        "RGB",
        (left + max(len(scales) * step_x, _LEGEND), top + len(points) * step_y + _TEXT + _MARGIN),
        _PAPER,
    )
    draw = ImageDraw.Draw(panel)
    for i, size in enumerate(scales):
        title = "full resolution" if size == 1 else f"1/{size} resolution"
        draw.text((left + i * step_x, _MARGIN), title, fill=_INK, font=font)
    for j, (caption, point) in enumerate(points.items()):
        marks = {s: _compute_marks(*fields[s], s, point, max(color.shape[:2])) for s in scales}
        top_left, side = _bounding_square(
            [place for grid, dots, _ in marks.values() for place in (grid, dots)]
        )
        detail = Image.new("RGB", (side, side), _OUTSIDE)
        detail.paste(Image.fromarray(color), (-top_left[1], -top_left[0]))
        for i, size in enumerate(scales):
            picture = _draw_marks(detail, top_left, point, *marks[size], width)
            panel.paste(picture, (left + i * step_x, top + j * step_y))
        text = f"{caption}: row {point[0]}, column {point[1]}"
        draw.text((left, top + j * step_y + width + _MARGIN // 2), text, fill=_INK, font=font)
    panel.paste(_draw_legend(), (left, panel.height - _TEXT - _MARGIN))
    return np.asarray(panel)


def _compute_marks(
    positions: np.ndarray, modulation: np.ndarray, size: int, point: tuple[int, int], longest: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns grid ``[9, 2]`` and dots ``[G, 9, 2]`` in image pixels, and modulation ``[G, 9]``."""
    row, column = point[0] // size, point[1] // size
    grid = np.add(np.stack(np.divmod(np.arange(9), 3), axis=-1), (row - 1, column - 1))
    offset = (positions[0, row, column].astype(np.float64) - grid) * size
    grid = (grid + 0.5) * size - 0.5
    return grid, grid + np.clip(offset, -longest, longest), modulation[0, row, column]


def _bounding_square(places: Sequence[np.ndarray]) -> tuple[tuple[int, int], int]:
    """Returns corner and side of the smallest square around places ``[..., 2]``, with a margin."""
    every = np.concatenate([p.reshape(-1, 2) for p in places])
    low, high = np.floor(every.min(axis=0)) - 1, np.ceil(every.max(axis=0)) + 1
    side = int((high - low).max()) + 1
    top, left = (low + high + 1 - side) // 2
    return (int(top), int(left)), side


def _draw_marks(
    detail: Image.Image,
    top_left: tuple[int, int],
    point: tuple[int, int],
    grid: np.ndarray,
    dots: np.ndarray,
    modulation: np.ndarray,
    width: int,
) -> Image.Image:
    """Enlarges the detail that begins at the pixel ``top_left``, and draws the marks on it."""
    large = width * _FINER
    zoom = large / detail.width
    unit = large / 288  # the marks grow with the picture

    def place(p: np.ndarray) -> tuple[float, float]:
        y, x = (p - top_left + 0.5) * zoom
        return float(x), float(y)

    # Nearest neighbor shows the pixels themselves.
    picture = detail.resize((large, large), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(picture)
    for group in dots:
        for start, end in zip(grid, group, strict=True):
            draw.line([place(start), place(end)], fill=_PAPER, width=round(unit))
    for p in grid:
        _draw_square(draw, place(p), unit)
    for p, value in zip(dots.reshape(-1, 2), modulation.reshape(-1), strict=True):
        _draw_dot(draw, place(p), value, unit * min(1, 2 / len(dots)) ** 0.25)  # smaller if many
    draw.rectangle(
        _square_around(place(np.array(point)), zoom / 2), outline=_POINT, width=round(2 * unit)
    )
    return picture.resize((width, width), Image.Resampling.BOX)


def _draw_legend() -> Image.Image:
    """Draws the legend, one line of ``_LEGEND`` pixels: modulation colors, then marks."""
    unit, middle = float(_FINER), _TEXT * _FINER / 2
    picture = Image.new("RGB", (_LEGEND * _FINER, _TEXT * _FINER), _PAPER)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=(_TEXT - 2) * _FINER)

    def write(x: float, text: str) -> float:
        draw.text((x, middle), text, fill=_INK, font=font, anchor="lm")
        return x + font.getlength(text) + 6 * unit

    x = write(0, "learned sample, modulation 0")
    for value in np.linspace(0, 1, 11):
        _draw_dot(draw, (x + 5 * unit, middle), value, unit)
        x += 10 * unit
    x = write(x + 6 * unit, "1") + 24 * unit
    _draw_square(draw, (x, middle), unit)
    x = write(x + 9 * unit, "regular grid of the scale") + 24 * unit
    draw.rectangle(_square_around((x, middle), 6 * unit), outline=_POINT, width=round(2 * unit))
    write(x + 11 * unit, "chosen pixel")
    return picture.resize((_LEGEND, _TEXT), Image.Resampling.BOX)


def _draw_square(draw: ImageDraw.ImageDraw, center: tuple[float, float], unit: float) -> None:
    draw.rectangle(_square_around(center, 4.5 * unit), outline=_INK, width=round(3 * unit))
    draw.rectangle(_square_around(center, 3.5 * unit), outline=_PAPER, width=round(unit))


def _draw_dot(
    draw: ImageDraw.ImageDraw, center: tuple[float, float], modulation: float, unit: float
) -> None:
    red, green, blue = (round(float(np.interp(modulation, (0, 0.5, 1), c))) for c in _RAMP.T)
    draw.ellipse(_square_around(center, 4.5 * unit), fill=_INK)
    draw.ellipse(_square_around(center, 3.5 * unit), fill=(red, green, blue))


def _square_around(center: tuple[float, float], radius: float) -> list[float]:
    x, y = center
    return [x - radius, y - radius, x + radius, y + radius]


def _check_sampling(
    size_in: tuple[int, ...],
    fields: Mapping[int, tuple[np.ndarray, np.ndarray]],
    points: Mapping[str, tuple[int, int]],
) -> None:
    height, width = size_in
    if not points or not fields:
        raise ValueError(
            "nothing to draw; give the sampling of at least one scale and at least one point "
            "(choose_points finds three)"
        )
    for caption, (row, column) in points.items():
        if not (0 <= row < height and 0 <= column < width):
            raise ValueError(
                f"the point {caption!r} is ({row}, {column}), outside the image of "
                f"{format_count(height, 'row')} and {format_count(width, 'column')}; choose a "
                "pixel of the image"
            )
    for size, (positions, modulation) in fields.items():
        got, of = positions.shape, modulation.shape
        expected = (1, -(-height // size), -(-width // size))
        if got[:3] != expected or got[4:] != (9, 2) or of != got[:-1]:
            raise ValueError(
                f"the sampling of scale {size} has shapes {got} and {of}, but one image of "
                f"{height}x{width} needs {expected} + (G, 9, 2) and {expected} + (G, 9); pass the "
                "sampling of this image alone"
            )
        if not np.isfinite(positions).all() or not np.isfinite(modulation).all():
            raise ValueError(
                f"the sampling of scale {size} holds NaN or infinity; check the network's "
                "parameters and input"
            )


def _find_detail(clean: np.ndarray) -> tuple[int, int, int]:
    """Finds the square with the strongest gradients on a coarse grid: top, left and side."""
    height, width = clean.shape[:2]
    side = max(1, min(96, height, width))
    gray = np.asarray(clean, np.float64).mean(axis=-1)
    steps = np.zeros_like(gray)
    steps[1:] += np.abs(np.diff(gray, axis=0))
    steps[:, 1:] += np.abs(np.diff(gray, axis=1))
    corners = [
        (steps[y : y + side, x : x + side].sum(), y, x)
        for y in range(0, height - side + 1, max(1, side // 2))
        for x in range(0, width - side + 1, max(1, side // 2))
    ]
    _, top, left = max(corners, key=lambda corner: corner[0])
    return top, left, side
