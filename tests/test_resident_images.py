"""Training images in device memory: what is cut, in which order, and how it is spread."""

import functools
import math
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import input_pipeline
from configs import default
from lcdnet_jax import image_io, resident_images
from lcdnet_jax.image_io import ImageError
from lcdnet_jax.resident_images import ROW_PIXELS, ResidentImages

draw = jax.jit(resident_images.draw, static_argnames=("crop", "augment", "batch_size"))
draw_choices = jax.jit(
    resident_images.draw_choices, static_argnames=("augment", "batch_size"), static_argnums=0
)
STANDARD = {"seed": 3, "crop": 8, "augment": True, "batch_size": 16}


pytestmark = pytest.mark.usefixtures("quickly_compiled")


def random_images(rng, shapes, dtype=np.uint8):
    return [rng.integers(0, np.iinfo(dtype).max, s, dtype, endpoint=True) for s in shapes]


def cut(image, tile, place, turns, crop, *, two_views=False):
    """One example of an ``[H, W, C]`` image, step by step."""
    top, left, height, width = tile
    free = np.maximum(np.array([height, width]) - crop, 0)
    corner = np.minimum((place * (free + 1).astype(np.float32)).astype(int), free)
    tile = image[top : top + height, left : left + width]
    tile = tile[corner[0] : corner[0] + crop, corner[1] : corner[1] + crop]
    missing = [(0, crop - side) for side in tile.shape[:2]]
    tile = np.pad(tile, [*missing, (0, 0)], mode="reflect")
    if turns[0]:
        tile = tile[::-1]
    if turns[1]:
        tile = tile[:, ::-1]
        if two_views:
            tile = tile[..., [0, 1, 2, 6, 7, 8, 3, 4, 5]]
    if turns[2] and not two_views:
        tile = tile.transpose(1, 0, 2)
    return image_io.to_float(tile)


# What is cut

SIZES = [(8, 8), (9, 31), (37, 45), (5, 70), (3, 2), (1, 9), (128, 2), (2, 129), (16, 16)]


@pytest.mark.extended
@pytest.mark.parametrize(
    ("channels", "degraded_channels", "dtype"),
    [(3, 0, np.uint8), (1, 0, np.uint16), (3, 3, np.uint8), (3, 6, np.uint16)],
)
def test_crops_are_cut_outs(rng, channels, degraded_channels, dtype):
    """Odd sizes, images smaller than the crop and across rows of the storage, bit for bit."""
    clean = random_images(rng, [(*size, channels) for size in SIZES], dtype)
    degraded = random_images(rng, [(*size, degraded_channels) for size in SIZES], dtype)
    given = {"degraded": degraded} if degraded_channels else {}
    images = ResidentImages.from_arrays(clean, **given)
    whole = [np.concatenate(halves, axis=2) for halves in zip(clean, degraded, strict=True)]
    for step in (0, 1, 70):
        batch = {name: np.asarray(x) for name, x in draw(images, step, **STANDARD).items()}
        assert sorted(batch) == (["clean", "degraded", "mask"] if given else ["clean", "mask"])
        assert all(x.dtype == np.float32 for x in batch.values())
        np.testing.assert_array_equal(batch["mask"], np.ones(16))
        chosen = draw_choices(len(SIZES), step, seed=3, augment=True, batch_size=16)
        for j, (number, place, turns) in enumerate(zip(*map(np.asarray, chosen), strict=True)):
            tile = (0, 0, *SIZES[number])
            wanted = cut(whole[number], tile, place, turns, 8, two_views=degraded_channels == 6)
            np.testing.assert_array_equal(batch["clean"][j], wanted[..., :channels])
            if given:
                np.testing.assert_array_equal(batch["degraded"][j], wanted[..., channels:])


@pytest.mark.extended
def test_tiles_bound_the_crops(rng):
    image = random_images(rng, [(30, 40)])[0]
    tiles = np.array([(0, 3, 5, 10, 10), (0, 20, 0, 10, 6), (0, 0, 30, 8, 10)])
    images = ResidentImages.from_arrays([image], tiles=tiles)
    batch = draw(images, 5, **STANDARD)["clean"]
    chosen = draw_choices(3, 5, seed=3, augment=True, batch_size=16)
    for j, (number, place, turns) in enumerate(zip(*map(np.asarray, chosen), strict=True)):
        wanted = cut(image[..., None], tiles[number, 1:], place, turns, 8)
        np.testing.assert_array_equal(batch[j], wanted)


@pytest.mark.extended
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_level_becomes_its_float(dtype):
    top = np.iinfo(dtype).max
    side = 16 if top == 255 else 256
    image = np.arange(top + 1, dtype=dtype).reshape(side, side)
    images = ResidentImages.from_arrays([image])
    batch = draw(images, 0, seed=0, crop=side, augment=False, batch_size=1)["clean"]
    np.testing.assert_array_equal(batch[0, ..., 0], image_io.to_float(image))


def test_without_augmentation_nothing_is_turned():
    assert not draw_choices(3, 0, seed=0, augment=False, batch_size=16).turns.any()
    turns = np.asarray(draw_choices(3, 0, seed=0, augment=True, batch_size=16).turns)
    assert (turns.any(axis=0) & ~turns.all(axis=0)).all()


# Order


@pytest.mark.extended
@pytest.mark.parametrize(("tiles", "batch_size"), [(7, 4), (5, 16), (1, 3), (12, 4), (9, 1)])
def test_every_epoch_shows_each_tile_once(tiles, batch_size):
    options = {"seed": 1, "augment": True, "batch_size": batch_size}
    drawn = jax.jit(lambda step: draw_choices(tiles, step, **options).tile)
    steps = -(-6 * tiles // batch_size)
    shown = np.concatenate([drawn(step) for step in range(steps)])[: 6 * tiles]
    epochs = shown.reshape(6, tiles)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(tiles), (6, 1)))
    if tiles > 4:
        assert len({tuple(epoch) for epoch in epochs}) > 4


def test_no_random_number_is_drawn_twice():
    """Not in several epochs, nor by two seeds."""
    options = {"augment": True, "batch_size": 16}
    chosen = [draw_choices(3, step, seed=seed, **options) for step in range(10) for seed in (0, 1)]
    assert len(np.unique(np.concatenate([one.place for one in chosen]), axis=0)) == 2 * 160
    assert not np.array_equal(chosen[0].tile, chosen[1].tile)


def test_no_key_is_one_of_the_degradations():
    """prepare() folds the step into the key of the seed; the streams here are above all steps."""
    assert min(resident_images._ORDER, resident_images._PLACE) >= 2**31
    assert resident_images._ORDER != resident_images._PLACE


@pytest.mark.extended
def test_same_distribution_as_the_host(tmp_path):
    """Corners and orientations of many crops of an image whose pixels tell their places."""
    rows, columns = np.mgrid[:11, :13].astype(np.uint16)
    image_io.write(tmp_path / "a.png", 256 * rows + columns)
    config = default.get_config()
    config.data.train.source, config.data.train.path = "folder", str(tmp_path)
    config.data.channels, config.data.crop, config.batch_size = 1, 8, 500
    batches = input_pipeline.create_dataset(config, "train").batches()
    from_host = np.concatenate([next(batches)["clean"] for _ in range(8)])
    batches.close()
    config.data.where = "device"
    images = input_pipeline.create_dataset(config, "train").resident
    options = {"seed": 0, "crop": 8, "augment": True, "batch_size": 500}
    from_device = np.concatenate([draw(images, step, **options)["clean"] for step in range(8)])

    def counts(crops):
        """How often each of 4 x 6 corners occurs, and each of 8 orientations."""
        values = np.rint(crops[..., 0] * 65535).astype(int)
        corner = values.min(axis=(1, 2))
        # Where in a crop its corner lies, and what stands right of, or left of it.
        right = values[:, 0, 1] - values[:, 0, 0]
        down = values[:, 1, 0] - values[:, 0, 0]
        turned = {pair: k for k, pair in enumerate(sorted({*zip(right, down, strict=True)}))}
        assert set(turned) == {
            pair
            for along in (-256, 256)
            for across in (-1, 1)
            for pair in ((along, across), (across, along))
        }
        orientation = [turned[pair] for pair in zip(right, down, strict=True)]
        place = corner // 256 * 6 + corner % 256
        return np.bincount(place, minlength=24), np.bincount(orientation, minlength=8)

    for host, device in zip(counts(from_host), counts(from_device), strict=True):
        assert len(host) == len(device)
        assert host.all()
        assert device.all()
        assert scipy.stats.chi2_contingency([host, device]).pvalue > 0.01
        assert scipy.stats.chisquare(device).pvalue > 0.01


# Steps and devices


@pytest.fixture
def images(rng):
    return ResidentImages.from_arrays(random_images(rng, [(9, 20, 3), (30, 8, 3), (8, 8, 3)]))


@pytest.mark.extended
def test_resume_and_scan_agree(images):
    """A step is independent of those before, and of how it is traced."""

    def advance(carry, step):
        return carry, resident_images.draw(images, step, **STANDARD)["clean"]

    _, scanned = jax.jit(lambda: jax.lax.scan(advance, None, jnp.arange(3, 6)))()
    for k, step in enumerate((3, 4, 5)):
        np.testing.assert_array_equal(draw(images, step, **STANDARD)["clean"], scanned[k])
    assert not np.array_equal(scanned[0], scanned[1])


def test_the_last_steps_before_the_limit(images):
    step = 2**31 // 16 - 2
    chosen = draw_choices(3, step, seed=3, augment=True, batch_size=16)
    assert np.bincount(chosen.tile, minlength=3).min() >= 5
    assert (chosen.place >= 0).all()
    assert (np.asarray(draw(images, step, **STANDARD)["clean"]) > 0).any(axis=(1, 2, 3)).all()


def constrained(sharding):
    """Draws with the batch placed so."""

    def program(images, step):
        batch = resident_images.draw(images, step, **STANDARD)
        return jax.lax.with_sharding_constraint(batch, sharding)

    return jax.jit(program)


@pytest.fixture
def mesh():
    return Mesh(np.array(jax.devices()).reshape(4, 2), ("data", "state"))


@pytest.mark.extended
def test_devices_draw_what_one_draws(images, mesh):
    everywhere = jax.device_put(images, NamedSharding(mesh, PartitionSpec()))
    divided = NamedSharding(mesh, PartitionSpec(("data", "state")))
    for step in (0, 9):
        batch = constrained(divided)(everywhere, step)
        assert batch["clean"].sharding.shard_shape(batch["clean"].shape) == (2, 8, 8, 3)
        wanted = draw(images, step, **STANDARD)
        jax.tree.map(np.testing.assert_array_equal, batch, wanted)


def gathered(text):
    """Pixels that each gather of a program takes from the images."""
    shapes = re.findall(r"= u8\[([\d,]+)\]\S* gather\(", text)
    return [math.prod(map(int, shape.split(","))) // 3 for shape in shapes]


@pytest.mark.extended
def test_no_device_talks_to_another(images, mesh):
    """Each gathers the pixels of its own part of the batch only."""
    everywhere = jax.device_put(images, NamedSharding(mesh, PartitionSpec()))

    def compiled(spec):
        return constrained(NamedSharding(mesh, spec)).lower(everywhere, 0).compile().as_text()

    text = compiled(PartitionSpec(("data", "state")))
    talk = r"all-gather|all-to-all|all-reduce|reduce-scatter|collective|ragged|send|recv"
    assert not re.search(rf"= .*\b({talk})", text)
    assert gathered(text) == [2 * 8 * 8]
    assert gathered(compiled(PartitionSpec())) == [16 * 8 * 8]  # were the batch not divided


@pytest.mark.extended
def test_pmap_draws_the_same(images):
    def part(images, step):
        first = jax.lax.axis_index("data") * 2
        return resident_images.draw(images, step, **STANDARD, first=first, count=2)

    parts = jax.pmap(part, axis_name="data", in_axes=(None, 0))(images, jnp.full(8, 5))
    wanted = draw(images, 5, **STANDARD)
    joined = jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), parts)
    jax.tree.map(np.testing.assert_array_equal, joined, wanted)


# Arrays that cannot be used


def test_storage(rng):
    """Images begin with a row of their own."""
    arrays = random_images(rng, [(10, 20, 3), (16, 8, 3)])
    images = ResidentImages.from_arrays(arrays)
    assert images.pixels.shape == (3, 3 * ROW_PIXELS)
    assert (len(images), images.depth, images.clean_channels, images.longest_side) == (2, 3, 3, 20)
    np.testing.assert_array_equal(images.table, [(0, 20, 0, 0, 10, 20), (2, 8, 0, 0, 16, 8)])
    np.testing.assert_array_equal(images.pixels[2].reshape(16, 8, 3), arrays[1])


GREY, COLOUR = np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3), np.uint8)


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ([], {}, "images is empty; give at least one"),
        ([GREY, GREY.astype(np.uint16)], {}, "dtype uint16, uint8; give all as.*to_uint16"),
        ([GREY.astype(np.float32)], {}, "dtype float32; give all as uint8 or all as uint16"),
        ([GREY, COLOUR], {}, "images have 1, 3 channels; .*convert_channels"),
        ([GREY, GREY[0]], {}, r"images\[1\] has the shape \(9,\); needs"),
        ([COLOUR[:0]], {}, r"images\[0\] has the shape \(0, 9, 3\)"),
        ([COLOUR], {"degraded": []}, "degraded is empty"),
        ([COLOUR] * 2, {"degraded": [COLOUR]}, "got 2 clean images and 1 degraded image; give as"),
        ([COLOUR], {"degraded": [COLOUR[1:]]}, "9x9, but its degraded half 8x9; crop or resize"),
        ([COLOUR], {"degraded": [GREY]}, "images have 3 channels, degraded ones 1; give both the"),
        ([GREY], {"tiles": np.zeros((1, 4), int)}, r"tiles have the shape \(1, 4\); needs"),
        ([GREY], {"tiles": np.array([(0, 2, 0, 8, 8)])}, r"tiles\[0\] is \[0, 2, 0, 8, 8\]"),
        ([GREY], {"tiles": np.array([(0, 0, 0, 9, 9), (1, 0, 0, 8, 8)])}, r"tiles\[1\] is"),
    ],
)
def test_wrong_arrays_are_refused(arrays, options, message):
    with pytest.raises(ValueError, match=message):
        ResidentImages.from_arrays(arrays, **options)


def test_too_large_a_crop_is_refused():
    images = ResidentImages.from_arrays([GREY, GREY[:4]])
    jax.eval_shape(functools.partial(resident_images.draw, **STANDARD | {"crop": 9}), images, 0)
    with pytest.raises(ValueError, match=r"crop 10 is larger than every image.*use at most 9"):
        resident_images.draw(images, 0, **STANDARD | {"crop": 10})


# From the input pipeline


@pytest.fixture
def config(tmp_path):
    config = default.get_config()
    config.data.train.source, config.data.train.path = "folder", str(tmp_path)
    config.data.crop, config.data.augment, config.data.where = 8, False, "device"
    return config


def write(folder, rng, count=3, *, shape=(8, 8, 3), dtype=np.uint8):
    folder.mkdir(parents=True, exist_ok=True)
    for k, image in enumerate(random_images(rng, [shape] * count, dtype)):
        image_io.write(folder / f"{k}.png", image)


def gray_of_8_and_16_bits(folder, rng, config):
    write(folder, rng)
    image_io.write(folder / "x.png", random_images(rng, [(8, 8, 3)], np.uint16)[0])
    config.data.channels = 1
    return 4


def tiles_at_scales(folder, rng, config):
    """Three tiles of each image of full size, one of each of half size, 4x8 pixels."""
    write(folder, rng, shape=(8, 17, 3))
    config.data.tile, config.data.tile_stride = 8, 4
    config.data.scales = (1.0, 0.5)
    return 12


def pairs(folder, rng, config):
    write(folder / "input", rng)
    write(folder / "target", rng, dtype=np.uint16)
    config.degradation.kind = "none"
    return 3


def two_views(folder, rng, config):
    for part, suffix, start in (
        ("l/source", "_L", 890),
        ("r/source", "_R", 890),
        ("c/target", "", 891),
    ):
        place = folder / f"train_{part}"
        place.mkdir(parents=True)
        for k, image in enumerate(random_images(rng, [(8, 8, 3)] * 2, np.uint16)):
            image_io.write(place / f"1P0A{start + 2 * k:04d}{suffix}.png", image)
    config.data.train.source, config.data.train.split = "dpdd_dual", "train"
    config.degradation.kind, config.data.channels = "none", 6
    config.network.name, config.network.kwargs = "lcdnet", {"preset": "tiny"}
    return 2


@pytest.mark.extended
@pytest.mark.parametrize("make", [gray_of_8_and_16_bits, tiles_at_scales, pairs, two_views])
def test_an_epoch_shows_what_the_host_shows(tmp_path, config, rng, make):
    """Crops as large as the tiles: both must give the same ones, in any order."""
    config.batch_size = make(tmp_path, rng, config)
    data = input_pipeline.create_dataset(config, "train")
    assert isinstance(data, input_pipeline.DeviceDataset)
    from_device = draw(
        data.resident, 0, seed=0, crop=8, augment=False, batch_size=config.batch_size
    )
    config.data.where = "host"
    host = input_pipeline.create_dataset(config, "train")
    batches = host.batches()
    from_host = next(batches)
    batches.close()
    assert from_device.keys() == from_host.keys()
    assert len(data) == len(host)
    assert data.describe() == host_description(host, data)

    def in_order(batch):
        halves = [np.asarray(batch[name]) for name in ("clean", "degraded") if name in batch]
        flat = np.concatenate(halves, axis=-1).reshape(config.batch_size, -1)
        return flat[np.lexsort(flat.T)]

    np.testing.assert_array_equal(in_order(from_device), in_order(from_host))


def host_description(host, data):
    """But for the bytes, which are rounded up to whole rows."""
    size = data.resident.pixels.nbytes / 1e6
    return re.sub(r"\([\d.]+ MB\)$", f"({size:.1f} MB), on each device", host.describe())


@pytest.mark.extended
def test_turned_crops_come_from_the_file(tmp_path, config, rng):
    """Also of images that begin in the midst of the storage."""
    write(tmp_path, rng, shape=(19, 23, 3))
    data = input_pipeline.create_dataset(config, "train")
    batch = draw(data.resident, 2, **STANDARD)["clean"]
    chosen = draw_choices(3, 2, seed=3, augment=True, batch_size=16)
    for j, (number, place, turns) in enumerate(zip(*map(np.asarray, chosen), strict=True)):
        image = image_io.read(tmp_path / f"{number}.png")
        wanted = cut(image, (0, 0, 19, 23), place, turns, 8)
        np.testing.assert_array_equal(batch[j], wanted)


def test_images_that_do_not_fit_are_refused(tmp_path, config, rng):
    write(tmp_path, rng, shape=(20, 20, 3))
    needed = 3 * 4 * ROW_PIXELS * 3 / 1e9
    config.data.cache_gb = needed
    assert len(input_pipeline.create_dataset(config, "train")) == 3
    config.data.cache_gb = needed * 0.99
    message = (
        r"needs 4\.61e-06 GB of every device, but config\.data\.cache_gb is .*: raise it, "
        r"or set config\.data\.where to 'host'"
    )
    with pytest.raises(ValueError, match=message):
        input_pipeline.create_dataset(config, "train")


def test_too_large_a_crop_names_the_field(tmp_path, config, rng):
    write(tmp_path, rng)
    config.data.crop = 9
    with pytest.raises(ValueError, match=r"config\.data\.crop 9 is larger than every image"):
        input_pipeline.create_dataset(config, "train")


@pytest.fixture
def damaged(tmp_path, rng):
    """Five JPEG files of one level each, the second cut so that only its header is good."""
    for k in range(5):
        noise = rng.integers(0, 9, (40, 48, 3), np.uint8)
        image_io.write(tmp_path / f"{k}.jpg", noise + np.uint8(40 * k + 20))
    path = tmp_path / "1.jpg"
    path.write_bytes(path.read_bytes()[:-400])


def test_a_damaged_file_stops_and_is_named(config, damaged):
    with pytest.raises(ImageError, match=r"1\.jpg.*config\.data\.on_bad_image"):
        input_pipeline.create_dataset(config, "train")


def test_a_damaged_file_is_replaced_and_others_stay_in_their_places(config, damaged, tmp_path):
    config.data.on_bad_image = "replace"
    data = input_pipeline.create_dataset(config, "train")
    assert (len(data), len(data.resident)) == (4, 5)
    assert data.replaced == 0
    assert "4 decoded in memory" in data.describe()
    assert data.describe().endswith("1 damaged and replaced")

    def levels(data):
        batch = draw(data.resident, 0, **STANDARD | {"batch_size": 15})["clean"]
        return np.rint((np.asarray(batch).mean(axis=(1, 2, 3)) * 255 - 24) / 40).astype(int)

    before = levels(data)
    assert np.bincount(before).tolist() == [6, 0, 3, 3, 3]
    image_io.write(tmp_path / "1.jpg", np.full((40, 48, 3), 64, np.uint8))  # mended
    after = levels(input_pipeline.create_dataset(config, "train"))
    assert np.bincount(after).tolist() == [3, 3, 3, 3, 3]
    np.testing.assert_array_equal(before[after != 1], after[after != 1])


def test_only_damaged_files(tmp_path, config, damaged):
    config.data.on_bad_image = "replace"
    for path in tmp_path.iterdir():
        path.write_bytes((tmp_path / "1.jpg").read_bytes())
    with pytest.raises(ImageError, match="no image can be decoded"):
        input_pipeline.create_dataset(config, "train")


@pytest.mark.extended
def test_tensorflow_is_not_needed(tmp_path, rng):
    write(tmp_path, rng)
    program = f"""
import sys
sys.modules["tensorflow"] = None
import input_pipeline
from configs import default
config = default.get_config()
config.data.train.source, config.data.train.path = "folder", {str(tmp_path)!r}
config.data.crop, config.data.where = 8, "device"
data = input_pipeline.create_dataset(config, "train")
assert data.resident.pixels.any()
"""
    root = pathlib.Path(input_pipeline.__file__).parent.parent
    subprocess.run([sys.executable, "-c", program], cwd=root, timeout=120, check=True)
