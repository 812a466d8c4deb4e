"""Scores of folders: against NumPy and scikit-image, and how files are matched."""

import math
import unicodedata

import numpy as np
import pytest
import scipy.io
import scipy.ndimage
from skimage.metrics import structural_similarity

from lcdnet_jax import data_sets, image_io, protocols, storage
from lcdnet_jax.evaluation import folders, ground_truth
from lcdnet_jax.image_io import ImageError


def picture(rng, shape=(24, 30, 3), dtype=np.uint8):
    """A smooth image, on which SSIM is not close to 0 or 1."""
    sigma = (2, 2) + (0,) * (len(shape) - 2)
    x = scipy.ndimage.gaussian_filter(rng.random(shape), sigma)
    x = (x - x.min()) / (x.max() - x.min())
    return np.rint(x * np.iinfo(dtype).max).astype(dtype)


def noisy(rng, image, level=8):
    unit = np.iinfo(image.dtype).max / 255
    noise = rng.normal(0, level * unit, image.shape)
    return np.clip(np.rint(image + noise), 0, np.iinfo(image.dtype).max).astype(image.dtype)


def put(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    image_io.write(path, image)
    return image


def fill(root, names, rng, shape=(24, 30, 3), dtype=np.uint8):
    """Writes ground truth and results, ``names`` by name: (result, ground truth) below ``root``."""
    images = {}
    for result, truth in names:
        clean = put(root / truth, picture(rng, shape, dtype))
        images[truth] = clean, put(root / result, noisy(rng, clean))
    return images


def score(root, protocol, results=("a",), truth="gt", **options):
    """Rows and scores of single images."""
    chosen, data_set = folders.choose_protocol(protocol, scale=options.get("scale", 1))
    comparison = folders.compare_folders(
        [root / one for one in results], root / truth, data_set=data_set, **options
    )
    images = {}
    rows = comparison.score(
        chosen, on_image=lambda name, folder, one: images.setdefault((name, folder, one.name), one)
    )
    return list(rows), images


def problems(root, results=("a",), truth="gt", **options):
    with pytest.raises(ground_truth.FolderError) as caught:
        folders.compare_folders([root / one for one in results], root / truth, **options)
    return str(caught.value)


def psnr(a, b, peak=255):
    return 10 * math.log10(peak**2 / np.mean((a.astype(np.float64) - b) ** 2))


GAUSSIAN = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}


def rounded_luma(image):
    """MATLAB's rgb2ycbcr of a uint8 image."""
    weights = np.array([65.481, 128.553, 24.966]) / 255
    return np.rint(16 + image.astype(np.float64) @ weights)


def matlab_ssim(a, b):
    """SSIM of MATLAB for an array of three axes: a window of 11x11x11, edges repeated."""
    a, b = (x.astype(np.float64) / 255 for x in (a, b))

    def mean(x):
        return scipy.ndimage.gaussian_filter(x, 1.5, truncate=5 / 1.5, mode="nearest")

    ma, mb = mean(a), mean(b)
    va, vb, ab = mean(a * a) - ma * ma, mean(b * b) - mb * mb, mean(a * b) - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    return np.mean((2 * ma * mb + c1) * (2 * ab + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))


class TestScores:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    @pytest.mark.parametrize("shape", [(24, 30, 3), (24, 30), (17, 41, 3)])
    def test_of_pairs_are_those_of_scikit_image(self, tmp_path, rng, shape, dtype):
        images = fill(tmp_path, [(f"a/{i}.png", f"gt/{i}.png") for i in (0, 1)], rng, shape, dtype)
        (row,), scored = score(tmp_path, "pairs")
        peak = np.iinfo(dtype).max
        expected = []
        for i in (0, 1):
            clean, restored = images[f"gt/{i}.png"]
            axis = 2 if clean.ndim == 3 else None
            ssim = structural_similarity(
                restored, clean, data_range=peak, channel_axis=axis, **GAUSSIAN
            )
            one = scored["gt", "a", str(i)]
            expected.append((psnr(restored, clean, peak), ssim))
            np.testing.assert_allclose((one.psnr, one.ssim), expected[-1], rtol=2e-5)
        found = row.summary.psnr, row.summary.ssim
        np.testing.assert_allclose(found, np.mean(expected, axis=0), rtol=2e-5)
        assert (row.dataset, row.mode, row.summary.n) == ("gt", "a", 2)

    @pytest.mark.parametrize("protocol", ["gopro", "hide", "sidd"])
    def test_of_gopro_are_those_of_matlab(self, tmp_path, rng, protocol):
        ((clean, restored),) = fill(tmp_path, [("a/0.png", "gt/0.png")], rng).values()
        (row,), _ = score(tmp_path, protocol)
        expected = psnr(restored, clean), matlab_ssim(restored, clean)
        np.testing.assert_allclose((row.summary.psnr, row.summary.ssim), expected, rtol=2e-5)

    def test_of_rain_are_those_of_rounded_luma(self, tmp_path, rng):
        ((clean, restored),) = fill(tmp_path, [("a/0.png", "gt/0.png")], rng).values()
        (row,), _ = score(tmp_path, "rain")
        a, b = rounded_luma(restored), rounded_luma(clean)
        expected = psnr(a, b), structural_similarity(a, b, data_range=255, **GAUSSIAN)
        np.testing.assert_allclose((row.summary.psnr, row.summary.ssim), expected, rtol=2e-5)

    def test_of_dpdd_are_not_rounded(self, tmp_path, rng):
        names = [("a/0.png", "gt/0.png")]
        shape = (40, 41, 3)  # large enough for LPIPS
        ((clean, restored),) = fill(tmp_path, names, rng, shape, np.uint16).values()
        (row,), _ = score(tmp_path, "dpdd")
        ssim = structural_similarity(restored, clean, data_range=65535, channel_axis=2)
        found = row.summary.psnr, row.summary.ssim, row.summary.extra["mae"]
        mae = np.abs(restored.astype(np.float64) - clean).mean() / 65535
        np.testing.assert_allclose(found, (psnr(restored, clean, 65535), ssim, mae), rtol=1e-4)

    def test_of_16_bits_are_rounded_where_the_protocol_does(self, tmp_path, rng):
        clean = put(tmp_path / "gt/0.png", picture(rng))
        deep = np.minimum(clean.astype(int) * 257 + 100, 65535)  # rounds to the ground truth
        put(tmp_path / "a/0.png", deep.astype(np.uint16))
        assert "bit depth" in problems(tmp_path)
        (row,), _ = score(tmp_path, "8bit", any_depth=True)
        assert row.summary.psnr > 140  # up to the rounding of float32
        (row,), _ = score(tmp_path, "pairs", any_depth=True)
        assert 50 < row.summary.psnr < 60

    def test_border_of_super_resolution_and_ground_truth_of_other_sizes(self, tmp_path, rng):
        clean = put(tmp_path / "gt/0.png", picture(rng, (27, 34, 3)))
        restored = put(tmp_path / "a/0.png", noisy(rng, clean[:24, :32]))
        assert "30x24" not in (text := problems(tmp_path))
        assert "32x24 color, 8 bits, ground truth 34x27 color, 8 bits" in text
        (row,), _ = score(tmp_path, "sr", scale=4)
        weights = np.array([65.481, 128.553, 24.966]) / 255
        a, b = (16 + x[4:20, 4:28].astype(np.float64) @ weights for x in (restored, clean))
        np.testing.assert_allclose(row.summary.psnr, psnr(a, b), rtol=1e-5)
        with pytest.raises(ValueError, match="--scale"):
            folders.choose_protocol("sr")


def test_protocols_by_name():
    protocol, data_set = folders.choose_protocol("rain13k")
    assert (protocol.name, data_set) == ("rain", data_sets.DATA_SETS["rain13k"])
    assert folders.choose_protocol("hide")[0].name == "gopro"
    assert folders.choose_protocol("8bit")[0].noise is None
    for name in ("polyu", "nothing"):
        with pytest.raises(ValueError, match=f"no protocol '{name}'; known names: float, .*hide"):
            folders.choose_protocol(name)
    assert set(protocols.PROTOCOLS) >= {"gopro", "rain", "dpdd", "realblur", "sidd", "8bit"}


def matched(root, truth="gt", **options):
    """Names of results by names of ground truth, both below ``root``."""
    comparison = folders.compare_folders([root / "a"], root / truth, **options)
    ((found,),) = [one.values() for one in comparison.pairs.values()]
    return {
        pair.clean.label.removeprefix(f"{root}/"): pair.restored.label.removeprefix(f"{root}/")
        for pair in found
    }


class TestNames:
    @pytest.mark.parametrize(
        ("result", "truth"),
        [
            ("{}.png", "{}.png"),
            ("{}_restored.png", "{}.png"),
            ("{}_NAFNet.png", "{}.png"),
            ("{}-out.png", "{}.png"),
            ("{}.deblurred.png", "{}.png"),
            ("{} (copy).png", "{}.png"),
            ("{}.tif", "{}.bmp"),
            ("{}.PNG", "{}_gt.png"),
            ("{}_restored.png", "{}_clean.png"),
            ("{}_noisy.png", "{}-target.png"),
            ("{}_real.png", "{}_mean.png"),
            ("{}_gt.png", "{}_gt.png"),
            ("Straße {} 東京_x2.png", "Straße {} 東京.png"),
            ("scene {}/0001_out.png", "scene {}/0001.png"),
            ("GOPR{}-000001.png", "GOPR{}/000001.png"),
            ("GOPR{}_000001_out.png", "GOPR{}/sharp/000001.png"),
            ("GOPR{}/blur/000001.png", "GOPR{}/sharp/000001.png"),
        ],
    )
    def test_with_an_ending(self, tmp_path, rng, result, truth):
        numbers = ("1", "1_1", "11")  # each is the start of another
        names = [(f"a/{result.format(n)}", f"gt/{truth.format(n)}") for n in numbers]
        fill(tmp_path, names, rng, (8, 8))
        assert matched(tmp_path) == {clean: restored for restored, clean in names}

    def test_in_other_unicode_forms(self, tmp_path, rng):
        composed, decomposed = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
        fill(tmp_path, [(f"a/{decomposed}_out.png", f"gt/{composed}.png")], rng, (8, 8))
        assert len(matched(tmp_path)) == 1

    def test_ground_truth_beside_inputs(self, tmp_path, rng):
        names = [(f"a/{n}.png", f"gt/target/{n}.png") for n in "12"]
        fill(tmp_path, names, rng, (8, 8))
        put(tmp_path / "gt/input/1.png", picture(rng, (8, 8)))
        assert matched(tmp_path) == {clean: restored for restored, clean in names}

    def test_gopro_as_published(self, tmp_path, rng):
        names = [(f"a/GOPR1-{n}.png", f"gt/test/GOPR1/sharp/{n}.png") for n in ("01", "02")]
        fill(tmp_path, names, rng, (8, 8))
        for part in ("test/GOPR1/blur/01", "test/GOPR1/blur_gamma/01", "train/GOPR2/sharp/01"):
            put(tmp_path / f"gt/{part}.png", picture(rng, (8, 8)))
        assert matched(tmp_path) == {clean: restored for restored, clean in names}

    @pytest.mark.parametrize("form", ["{}", "test-long-shot/{}", "test-long-shot_{}", "{}_out"])
    def test_hide_as_published(self, tmp_path, rng, form):
        names = [(f"a/{form.format(n)}.png", f"gt/GT/{n}.png") for n in ("1from2", "3from4")]
        fill(tmp_path, names, rng, (8, 8))
        for n in ("1from2", "3from4"):
            put(tmp_path / f"gt/test/test-long-shot/{n}.png", picture(rng, (8, 8)))
        put(tmp_path / "gt/GT/training.png", picture(rng, (8, 8)))
        assert matched(tmp_path) == {clean: restored for restored, clean in names}
        put(tmp_path / "gt/test/test-close-ups/more.png", picture(rng, (8, 8)))
        assert "lacks the sharp image of:\n  more" in problems(tmp_path)

    def test_dpdd_as_published(self, tmp_path, rng):
        names = [("a/P1.png", "gt/test_c/target/P2.png"), ("a/P3.png", "gt/test_c/target/P4.png")]
        fill(tmp_path, names, rng, (8, 8))
        for n in ("P1", "P3"):
            put(tmp_path / f"gt/test_c/source/{n}.png", picture(rng, (8, 8)))
        assert matched(tmp_path) == {clean: restored for restored, clean in names}
        put(tmp_path / "gt/test_c/source/P5.png", picture(rng, (8, 8)))
        assert "has 3 images and" in problems(tmp_path)

    @pytest.mark.parametrize("form", ["{}_blur_{}", "{}_{}", "{}/blur/blur_{}", "{}_blur_{}_out"])
    def test_realblur_as_published(self, tmp_path, rng, form):
        """The images of the test list, with the names that the authors' evaluation takes."""
        archive, version = tmp_path / "archive", "RealBlur-J_ECC_IMCORR_centroid_itensity_ref"
        test = (("scene001", 1), ("scene001", 11), ("scene244_reflect", 2))
        names, lines = [], []
        for scene, number in test:
            sharp = f"{version}/{scene}/gt/gt_{number}.png"
            lines.append(f"{sharp} {version}/{scene}/blur/blur_{number}.png ")
            result = form.format(scene.removesuffix("_reflect"), number)
            names.append((f"a/{result}.png", f"archive/{sharp}"))
        fill(tmp_path, names, rng, (8, 8))
        for more in ("scene001/gt/gt_2", "scene002/gt/gt_1", "scene001/blur/blur_1"):
            put(archive / version / f"{more}.png", picture(rng, (8, 8)))
        expected = {clean: restored for restored, clean in names}
        (archive / "RealBlur_J_test_list.txt").write_text("\n".join([*lines, "\n"]))
        assert matched(tmp_path, truth="archive") == expected
        within = f"archive/{version}"
        assert matched(tmp_path, truth=within) == expected
        (archive / "RealBlur_R_test_list.txt").write_text("RealBlur-R/scene001/gt/gt_1.png x")
        assert "holds RealBlur-J and RealBlur-R; give the folder" in problems(
            tmp_path, truth="archive"
        )
        assert matched(tmp_path, truth=within) == expected
        (archive / version / "scene001/gt/gt_11.png").unlink()
        assert "lacks images that its test list names:" in problems(tmp_path, truth=within)
        (archive / "RealBlur_J_test_list.txt").unlink()
        found = problems(tmp_path, truth=within)  # all images count
        assert "a has no result for 2 of 4 images" in found
        assert "a has 1 image without ground truth" in found

    @pytest.mark.parametrize("form", ["{:02d}_{:02d}", "{:04d}_{:02d}", "{}_{}_restored"])
    def test_sidd_as_published(self, tmp_path, rng, form):
        blocks = rng.integers(0, 256, (2, 3, 16, 18, 3), dtype=np.uint8)
        (tmp_path / "gt").mkdir()
        path = tmp_path / "gt/ValidationGtBlocksSrgb.mat"
        scipy.io.savemat(path, {path.stem: blocks})
        for i, j in np.ndindex(2, 3):
            block = put(tmp_path / f"a/{form.format(i + 1, j + 1)}.png", noisy(rng, blocks[i, j]))
        (row,), images = score(tmp_path, "sidd")
        assert [name for _, _, name in images] == [f"0{i}_0{j}" for i in (1, 2) for j in (1, 2, 3)]
        one = images["gt", "a", "02_03"]
        np.testing.assert_allclose(one.psnr, psnr(block, blocks[1, 2]), rtol=1e-5)
        assert row.summary.n == 6
        denoised = blocks / np.float32(255) + np.float32(0.001)
        scipy.io.savemat(tmp_path / "a/Idenoised.mat", {"Idenoised": denoised})
        (row,), _ = score(tmp_path, "sidd")  # that file alone, unrounded, as Restormer writes it
        assert row.summary.n == 6
        clipped = np.clip(denoised, 0, 1) - blocks / 255
        expected = np.mean(-10 * np.log10(np.square(clipped).mean((2, 3, 4))))
        np.testing.assert_allclose(row.summary.psnr, expected, rtol=1e-5)
        scipy.io.savemat(tmp_path / "a/Idenoised.mat", {"Idenoised": denoised[:1]})
        assert "a has no result for 3 of 6 images" in problems(tmp_path)
        scipy.io.savemat(path, {path.stem: blocks[0]})
        with pytest.raises(ImageError, match=r"uint8 \[3, 16, 18, 3\] instead of uint8 \[images"):
            ground_truth.list_truth(tmp_path / "gt")
        path.write_bytes(b"no")
        with pytest.raises(ImageError, match="is not a MATLAB file"):
            ground_truth.list_truth(tmp_path / "gt")


class TestRefusals:
    def test_list_everything_at_once(self, tmp_path, rng):
        names = [(f"a/{n}_out.png", f"gt/{n}.png") for n in "12345678"]
        fill(tmp_path, names, rng, (8, 8, 3))
        for n in "12":
            (tmp_path / f"a/{n}_out.png").unlink()
        put(tmp_path / "a/3_out.png", picture(rng, (8, 9, 3)))
        put(tmp_path / "a/4_out.png", picture(rng, (8, 8)))
        put(tmp_path / "a/5_out.png", picture(rng, (8, 8, 3), np.uint16))
        put(tmp_path / "a/6_out.png", picture(rng, (8, 8, 4)))
        (tmp_path / "a/7_out.png").write_bytes(b"damaged")
        put(tmp_path / "a/extra.png", picture(rng, (8, 8, 3)))
        lines = problems(tmp_path).replace(f"{tmp_path}/", "").splitlines()
        assert lines[:5] == [
            "a has no result for 2 of 8 images:",
            "  gt/1.png",
            "  gt/2.png",
            "a has 1 image without ground truth; add it, or leave such images out:",
            "  a/extra.png",
        ]
        of = "ground truth 8x8 color, 8 bits"
        for line in (
            f"  a/3_out.png: 9x8 color, 8 bits, {of}",
            f"  a/4_out.png: 8x8 gray, 8 bits, {of}",
            f"  a/5_out.png: 8x8 color, 16 bits, {of}",
            f"  a/6_out.png: 8x8 color and alpha, 8 bits, {of}",
        ):
            assert line in lines
        assert "images that cannot be read:" in lines
        assert sum("7_out.png" in line for line in lines) == 1

    def test_two_results_of_one_image(self, tmp_path, rng):
        fill(tmp_path, [(f"a/{n}_out.png", f"gt/{n}.png") for n in "12"], rng, (8, 8))
        for n in "12":
            put(tmp_path / f"a/{n}_raw.png", picture(rng, (8, 8)))
        text = problems(tmp_path)
        assert "2 images without ground truth (names end in '_out', '_raw'; keep one" in text
        put(tmp_path / "a/1_out.tif", picture(rng, (8, 8)))
        assert "files with equal names; keep one of each" in problems(tmp_path)

    def test_folders(self, tmp_path, rng):
        fill(tmp_path, [("a/1.png", "gt/1.png")], rng, (8, 8))
        (tmp_path / "empty").mkdir()
        for results, truth, message in (
            ("none", "gt", "none: does not exist"),
            ("a", "none", "none: does not exist"),
            ("empty", "gt", "empty: contains no image"),
            ("a/1.png", "gt", "1.png: is a file, not a folder"),
        ):
            with pytest.raises(ImageError, match=message):
                folders.compare_folders([tmp_path / results], tmp_path / truth)
        with pytest.raises(ValueError, match="given twice"):
            folders.compare_folders([tmp_path / "a", tmp_path / "gt/../a/"], tmp_path / "gt")

    def test_files_damaged_behind_the_header_are_named(self, tmp_path, rng):
        fill(tmp_path, [("a/1.jpg", "gt/1.png")], rng, (64, 64, 3))
        path = tmp_path / "a/1.jpg"
        comparison = folders.compare_folders([path.parent], tmp_path / "gt")
        assert comparison.notes == [
            f"{path.parent}: JPEG files; their compression lowers the scores"
        ]
        path.write_bytes(path.read_bytes()[:-200])
        with pytest.raises(ImageError, match=r"1\.jpg"):
            list(comparison.score(protocols.get("pairs")))


RAIN = data_sets.DATA_SETS["rain13k"].groups["test"]


class TestSets:
    @pytest.fixture
    def sets(self, tmp_path, rng):
        """Two images in the first set, one in each other."""
        names = [(f"a/{name}/0.png", f"gt/test/{name}/target/0.png") for name in RAIN]
        names.append((f"a/{RAIN[0]}/1.png", f"gt/test/{RAIN[0]}/target/1.png"))
        images = fill(tmp_path, names, rng)
        for name in RAIN:
            put(tmp_path / f"gt/test/{name}/input/0.png", picture(rng))
        return tmp_path, images

    def test_have_equal_weight(self, sets):
        root, images = sets
        rows, scored = score(root, "rain13k")
        assert [row.dataset for row in rows] == [*RAIN, "rain13k_mean"]
        assert [row.summary.n for row in rows] == [2, 1, 1, 1, 1, 6]
        means = [row.summary.psnr for row in rows]
        np.testing.assert_allclose(means[-1], np.mean(means[:-1]), rtol=1e-12)
        clean, restored = images[f"gt/test/{RAIN[2]}/target/0.png"]
        expected = psnr(rounded_luma(restored), rounded_luma(clean))
        np.testing.assert_allclose(means[2], expected, rtol=1e-5)
        assert {name for name, _, _ in scored} == set(RAIN)

    def test_of_several_results(self, sets):
        root, _ = sets
        (root / "b").symlink_to(root / "a")
        rows, _ = score(root, "rain13k", ("a", "b"))
        means = [row for row in rows if row.dataset == "rain13k_mean"]
        assert [row.mode for row in means] == ["a", "b"]
        a, b = (row.summary for row in means)
        assert (a.psnr, a.ssim, a.n) == (b.psnr, b.ssim, b.n)

    def test_missing_ones_are_listed(self, sets):
        root, _ = sets
        for name in RAIN[1:3]:
            (root / f"a/{name}").rename(root / f"a/{name}x")
        text = problems(root, data_set=data_sets.DATA_SETS["rain13k"])
        assert f"a has no folder for 2 of 5 sets:\n  {RAIN[1]}\n  {RAIN[2]}" in text

    def test_are_not_mixed(self, sets):
        root, _ = sets
        with pytest.raises(ValueError, match="use --protocol rain13k, or give the folder of one"):
            score(root, "rain")


def test_result_folders_have_short_names(tmp_path, rng):
    names = [(f"{name}/x/1.png", "gt/1.png") for name in ("a", "b")]
    fill(tmp_path, names, rng, (8, 8))
    comparison = folders.compare_folders([tmp_path / "a/x", tmp_path / "b/x"], tmp_path / "gt")
    assert [*comparison.pairs["gt"]] == ["a/x", "b/x"]


@pytest.mark.extended
def test_a_bucket(bucket, tmp_path, rng, monkeypatch):
    """The scores of the local folders; each folder is listed once."""
    fill(tmp_path, [(f"a/{n}_net.png", f"gt/{n}.png") for n in "12"], rng)
    storage.upload(tmp_path, storage.to_path(bucket))
    expected = score(tmp_path, "8bit")
    url = storage.to_path(bucket)
    lists, find = [], storage.buckets.get_filesystem(url).find
    monkeypatch.setattr(
        storage.buckets.get_filesystem(url),
        "find",
        lambda path, detail: (lists.append(path), find(path, detail=detail))[1],
    )
    assert repr(score(url, "8bit")).replace(bucket, str(tmp_path)) == repr(expected)
    assert lists == [f"{bucket}/a", f"{bucket}/gt"]
    with pytest.raises(ImageError, match=r"/none: does not exist; give the folder"):
        folders.compare_folders([f"{bucket}/a"], f"{bucket}/none")

    def fail(*arguments, **options):
        raise ConnectionError("no route")

    monkeypatch.setattr(storage.buckets.get_filesystem(url), "cat_file", fail)
    with pytest.raises(image_io.BucketError, match="does not answer"):  # once, not for each image
        score(url, "8bit")


@pytest.mark.extended
def test_published_layouts_in_a_bucket(bucket, tmp_path, rng):
    """As in local folders: the list of RealBlur beside the images, the blocks of SIDD."""
    names = [f"RealBlur-J/scene00{n}/gt/gt_{n}.png" for n in (1, 2)]
    results = [f"a/scene00{n}_{n}.png" for n in (1,)]
    fill(tmp_path / "real", zip(results, names[:1], strict=True), rng)
    put(tmp_path / "real" / names[1], picture(rng))
    (tmp_path / "real" / "RealBlur_J_test_list.txt").write_text(f"{names[0]} blur.png\n")
    blocks = rng.integers(0, 256, (1, 2, 8, 8, 3), np.uint8)
    for folder, name in (("gt", "ValidationGtBlocksSrgb"), ("a", "Idenoised")):
        (tmp_path / "sidd" / folder).mkdir(parents=True, exist_ok=True)
        scipy.io.savemat(tmp_path / "sidd" / folder / f"{name}.mat", {name: blocks})
    storage.upload(tmp_path, storage.to_path(bucket))
    for root, truth in (("real", "RealBlur-J"), ("sidd", "gt")):
        found = [
            folders.compare_folders([f"{place}/{root}/a"], f"{place}/{root}/{truth}")
            for place in (tmp_path, bucket)
        ]
        assert [*found[0].pairs[truth]["a"]] != []
        assert found[1].truth[0].replace(bucket, str(tmp_path)) == found[0].truth[0]
        for local, there in zip(*(one.pairs[truth]["a"] for one in found), strict=True):
            assert there.name == local.name
            np.testing.assert_array_equal(there.clean.decode(), local.clean.decode())
            np.testing.assert_array_equal(there.restored.decode(), local.restored.decode())
