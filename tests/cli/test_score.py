"""The command score, in this process, and its agreement with eval.py."""

import csv
import json

import numpy as np
import pytest

from lcdnet_jax import image_io, storage
from lcdnet_jax.cli import main
from lcdnet_jax.metrics import lpips, niqe
from tests.evaluation.test_folders import RAIN, fill, noisy, picture, put
from tests.scripts import run as run_script

NAMES = ("0001", "0002", "0003")


@pytest.fixture
def place(tmp_path, monkeypatch, rng):
    """Two folders of results, and their ground truth; the last image of both is the best."""
    monkeypatch.chdir(tmp_path)
    fill(tmp_path, [(f"a/{n}_NAFNet.png", f"gt/{n}.png") for n in NAMES], rng)
    for level, n in zip((20, 16, 4), NAMES, strict=True):
        put(tmp_path / f"b/{n}.png", noisy(rng, image_io.read(f"gt/{n}.png"), level))
    return tmp_path


@pytest.fixture
def run(capsys):
    def run(*arguments):
        main.main(["score", *map(str, arguments)])
        return capsys.readouterr().out

    return run


def rows(path):
    """Rows of a JSON file, which are those of the CSV file beside it."""
    found = json.loads(path.read_text())
    with path.with_suffix(".csv").open(newline="") as table:
        assert [*csv.DictReader(table)] == [{k: str(v) for k, v in row.items()} for row in found]
    return found


def test_tables_files_and_panels(place, run):
    out = run("a", "b", "gt", "--protocol", "gopro", "-o", "out", "--panels", "1")
    lines = out.splitlines()
    assert lines[0] == "gt: 3 images"
    assert [line.split()[:2] for line in lines[2:4]] == [["gt", "a"], ["gt", "b"]]
    assert "gopro: " in out
    means, images = rows(place / "out/results.json"), rows(place / "out/images.json")
    assert [[*row] for row in means] == [
        ["dataset", "results", "protocol", "psnr", "ssim", "n"]
    ] * 2
    assert [(row["results"], row["image"]) for row in images] == [
        (folder, name) for folder in "ab" for name in NAMES
    ]
    for row in means:
        own = [one["psnr"] for one in images if one["results"] == row["results"]]
        np.testing.assert_allclose(row["psnr"], np.mean(own), rtol=1e-12)
        assert f"{row['psnr']:.2f}" in out
    panels = {path.name: image_io.read(path) for path in (place / "out/panels").iterdir()}
    assert sorted(panels) == ["best_1_gt_0003.png", "worst_1_gt_0001.png"]
    assert {panel.shape[1] for panel in panels.values()} == {3 * (384 + 8) + 8}


def test_existing_files_stay_without_force(place, run, error_of):
    command = ("a", "gt", "--protocol", "8bit", "-o", "out")
    run(*command)
    (place / "out/panels/worst_9_gt_x.png").write_bytes(b"")
    (place / "out/panels/mine.png").write_bytes(b"")
    assert "out/results.json" in error_of(*command)
    run(*command, "--force", "--panels", "5")
    names = [path.name for path in (place / "out/panels").iterdir()]
    assert "worst_9_gt_x.png" not in names
    assert "mine.png" in names
    assert len(names) == 4  # each image once


def test_no_panels(place, run):
    run("a", "gt", "--protocol", "pairs", "-o", "out", "--panels", "0")
    assert not (place / "out/panels").exists()


def test_gray_and_16_bits(place, run, rng):
    fill(place, [("deep/1.png", "truth/1.png")], rng, (40, 41), np.uint16)
    run("deep", "truth", "--protocol", "pairs", "-o", "out")
    assert (place / "out/panels/worst_1_truth_1.png").exists()


def test_files_that_do_not_fit_are_listed(place, error_of):
    (place / "a/0002_NAFNet.png").unlink()
    put(place / "a/0003_NAFNet.png", picture(np.random.default_rng(0), (5, 6)))
    text = error_of("a", "b", "gt", "--protocol", "gopro", "-o", "out")
    assert text.splitlines() == [
        "a has no result for 1 of 3 images:",
        "  gt/0002.png",
        "images of another size than their ground truth; crop them to the same pixels:",
        "  a/0003_NAFNet.png: 6x5 gray, 8 bits, ground truth 30x24 color, 8 bits",
    ]
    assert not (place / "out").exists()


def test_names_in_errors_are_escaped(place, error_of, rng):
    put(place / "a/\x1b[2J.png", picture(rng))
    assert "\n  a/\\x1b[2J.png" in error_of(*("a", "gt", "--protocol", "8bit", "-o", "out"))


@pytest.mark.parametrize("output", ["gt", "b", "b/scores", "link/scores"])
def test_panels_never_lie_among_scored_images(place, error_of, output):
    (place / "link").symlink_to(place / "gt")
    message = error_of("a", "b", "gt", "--protocol", "8bit", "-o", output)
    assert message.startswith(f"OUT ({output}) is in ")
    assert not (place / output / "results.json").exists()


def test_long_names_have_panels(tmp_path, monkeypatch, run, rng):
    monkeypatch.chdir(tmp_path)
    name = "n" * 245
    fill(tmp_path, [(f"a/{name}.png", f"gt/{name}.png")], rng)
    run("a", "gt", "--protocol", "8bit", "-o", "out")
    (panel,) = (tmp_path / "out/panels").iterdir()
    assert panel.name.startswith("worst_1_gt_nnn")


def test_long_lists_are_cut(place, error_of, rng):
    for i in range(30):
        put(place / f"gt/more{i:02d}.png", picture(rng, (8, 8)))
    command = ("b", "gt", "--protocol", "8bit", "-o", "out")
    assert error_of(*command).splitlines()[-1] == "  and 10 more"
    assert error_of(*command, "--debug").splitlines()[-1] == "  gt/more29.png"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--protocol", "mine"), "no protocol 'mine'; known names: float"),
        (("--protocol", "sr"), "give --scale, such as 4"),
        (("--protocol", "gopro", "--border", "-1"), "--border must be at least 0, got -1"),
        (("--protocol", "gopro", "--scale", "0"), "--scale must be at least 1, got 0"),
        (("--protocol", "gopro", "--border", "12"), "a/0001_NAFNet.png: protocol"),
        (("--protocol", "rain13k"), "gt has no folder for 5 of 5 sets"),
    ],
)
def test_wrong_arguments(place, error_of, arguments, message):
    assert message in error_of("a", "gt", *arguments, "-o", "out")


def test_lpips(place, run, error_of, monkeypatch):
    command = ("a", "gt", "--protocol", "gopro", "--lpips", "-o", "out")
    monkeypatch.setattr(lpips, "available", lambda: False)
    assert 'pip install "lcdnet-jax[torch]"' in error_of(*command)
    assert 'pip install "lcdnet-jax[torch]"' in run("a", "gt", "--protocol", "dpdd", "-o", "x")
    monkeypatch.setattr(lpips, "available", lambda: True)
    monkeypatch.setattr(lpips, "lpips", lambda restored, clean: 0.25)
    assert "LPIPS 0.2500" in run(*command)
    assert rows(place / "out/results.json")[0]["lpips"] == 0.25
    assert rows(place / "out/images.json")[0]["lpips"] == 0.25


def test_niqe(tmp_path, run, error_of, monkeypatch, rng):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path, [("a/1.png", "gt/1.png")], rng)
    command = ("a", "gt", "--protocol", "gopro", "--niqe", "-o", "out")
    monkeypatch.setattr(niqe, "available", lambda: False)
    assert "pip install pyiqa" in error_of(*command)
    monkeypatch.setattr(niqe, "available", lambda: True)
    assert "a/1.png: NIQE needs an image" in error_of(*command)  # of 24x30 pixels
    monkeypatch.setattr(niqe, "niqe", lambda restored: float(restored.max()))
    assert "NIQE" in run(*command)
    (row,) = rows(tmp_path / "out/images.json")
    np.testing.assert_allclose(row["niqe"], image_io.read("a/1.png").max() / 255, rtol=1e-6)


def test_border_and_luma(place, run):
    run("a", "gt", "--protocol", "pairs", "--border", "2", "--luma", "-o", "out")
    (row,) = rows(place / "out/results.json")
    assert row["protocol"] == "pairs-y-border2"


def test_perfect_images(place, run):
    """An infinite PSNR is null in JSON."""
    run("gt", "gt", "--protocol", "pairs", "-o", "out")
    assert json.loads((place / "out/results.json").read_text())[0]["psnr"] is None


def test_rain13k(tmp_path, monkeypatch, run, rng):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path, [(f"a/{name}/1.png", f"gt/{name}/target/1.png") for name in RAIN], rng)
    out = run("a", "gt", "--protocol", "rain13k", "-o", "out")
    assert "rain13k_mean" in out
    found = rows(tmp_path / "out/results.json")
    assert [row["dataset"] for row in found] == [*RAIN, "rain13k_mean"]
    np.testing.assert_allclose(
        found[-1]["psnr"], np.mean([row["psnr"] for row in found[:-1]]), rtol=1e-12
    )


@pytest.mark.parametrize("part", ["", "test/"])
def test_panels_never_lie_in_a_set(tmp_path, monkeypatch, error_of, rng, part):
    """Beside the sets they may."""
    monkeypatch.chdir(tmp_path)
    fill(tmp_path, [(f"a/{part}{n}/1.png", f"gt/{part}{n}/target/1.png") for n in RAIN], rng)
    output = f"a/{part}{RAIN[1]}/scores"
    message = error_of("a", "gt", "--protocol", "rain13k", "-o", output)
    assert message.startswith(f"OUT ({output}) is in a/{part}{RAIN[1]}, where")
    assert not (tmp_path / output).exists()


@pytest.mark.extended
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
@pytest.mark.parametrize("protocol", ["gopro", "rain"])
def test_scores_are_those_of_eval(place, run, rng, protocol, stand_in, checkpoint):
    """The images that eval.py saved have, exactly, the scores that it gave."""
    pytest.importorskip("tensorflow")
    for n in NAMES:
        put(place / f"pairs/target/{n}.png", image_io.read(f"gt/{n}.png"))
        put(place / f"pairs/input/{n}.png", picture(rng))
    command = ("eval.py", "--checkpoint", checkpoint, "--data", place / "pairs")
    options = ("--protocols", protocol, "--output", place / "eval", "--save_images")
    assert run_script(*command, *options) is None
    run(f"eval/pairs_{protocol}", "pairs", "--protocol", protocol, "-o", "out")
    (expected,) = json.loads((place / "eval/results.json").read_text())
    (found,) = rows(place / "out/results.json")
    for name in ("psnr", "ssim", "n", "protocol"):
        assert found[name] == expected[name]


@pytest.mark.extended
def test_buckets(bucket, place, run):
    """The files of a local run; panels of an earlier run are replaced."""
    arguments = ("--protocol", "gopro", "--panels", "1")
    local = run("a", "b", "gt", "-o", "out", *arguments)
    storage.upload(place, storage.to_path(bucket))
    there = [f"{bucket}/{name}" for name in ("a", "b", "gt")]
    before = set(storage.list_files(storage.to_path(bucket)))
    output = storage.to_path(f"{bucket}/scores")
    storage.write(output / "panels/best_9_gt_old.png", b"")
    out = run(*there, "-o", output, *arguments)
    assert out.replace(f"{bucket}/scores", "out").replace(f"{bucket}/", "") == local
    files = {path.relative_to(place / "out").as_posix() for path in (place / "out").rglob("*.*")}
    assert set(storage.list_files(output)) == files
    assert len([name for name in files if name.startswith("panels/")]) == 2
    for name in files:
        assert storage.read_bytes(output / name) == (place / "out" / name).read_bytes()
    for results, where in ((there[0], f"{there[0]}/x"), ("a", f"{bucket}/gt/y")):
        with pytest.raises(SystemExit, match="where its panels would count as images"):
            main.main(["score", results, there[2], "-o", where, "--protocol", "8bit"])
    assert set(storage.list_files(storage.to_path(bucket))) == before | {
        f"scores/{name}" for name in files
    }
