"""The plan of a run over files: which images, and where their results go."""

import pathlib

import pytest

from lcdnet_jax import storage
from lcdnet_jax.inference import plan
from tests.cli.halving import put


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def planned(*inputs, output="out", **options):
    """Sources by target."""
    jobs = plan.plan_jobs(inputs, output, **options)
    return {str(job.target): str(job.source) for job in jobs}


def test_folders_and_listed_files(place):
    """All images of a folder, sorted, below their subfolders; the rest by name, each once."""
    for name in (
        "in/b.png",
        "in/sub/a.PNG",
        "in/.hidden/c.png",
        "in/.d.png",
        "in/out/e.png",
        "f.png",
    ):
        put(place / name)
    (place / "in" / "notes.txt").write_text("")
    found = planned("in", "-", output="in/out", stdin_paths=["f.png\n", "\n", "in/b.png\r\n"])
    assert list(found.items()) == [
        ("in/out/b.png", "in/b.png"),
        ("in/out/sub/a.PNG", "in/sub/a.PNG"),
        ("in/out/f.png", "f.png"),
    ]


@pytest.mark.parametrize(
    ("output", "target"),
    [("new", "new/a.png"), ("x.y/", "x.y/a.png"), ("made.d", "made.d/a.png"), ("b.jpg", "b.jpg")],
)
def test_output_of_one_file(place, output, target):
    put(place / "a.png")
    (place / "made.d").mkdir()
    assert planned("a.png", output=output) == {target: "a.png"}


@pytest.mark.parametrize(
    ("inputs", "output", "message"),
    [
        ([], "out", "no image was named"),
        ([""], "out", "a path is empty"),
        (["x/a.png", "y/a.png"], "out", "would both become a.png in out"),
        (["x", "y/b.png"], "o.png", "o.png is the name of one image; give a folder"),
        (["x"], "notes", "notes is a file; give a folder"),
        (["empty"], "out", "empty: contains no image"),
    ],
)
def test_mistakes(place, inputs, output, message):
    for name in ("x/a.png", "y/a.png", "y/b.png"):
        put(place / name)
    (place / "empty").mkdir()
    (place / "notes").write_text("")
    with pytest.raises(ValueError, match=message):
        plan.plan_jobs(inputs, output)


def test_raw_files_of_equal_names(place):
    """Two kinds of raw files, and one beside its export, keep their suffixes in the results."""
    for name in ("in/a.dng", "in/a.NEF", "in/b.nef", "in/b.tif", "in/c.nef", "in/sub/c.tif"):
        put(place / "a.png")
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "a.png").rename(place / name)
    assert planned("in") == {
        "out/a.NEF.tif": "in/a.NEF",
        "out/a.dng.tif": "in/a.dng",
        "out/b.nef.tif": "in/b.nef",
        "out/b.tif": "in/b.tif",
        "out/c.tif": "in/c.nef",
        "out/sub/c.tif": "in/sub/c.tif",
    }
    assert planned("in/b.nef", "in/b.tif") == {
        "out/b.nef.tif": "in/b.nef",
        "out/b.tif": "in/b.tif",
    }


def test_references(place):
    """By the name of the result, with any suffix; the exact name first."""
    for name in ("in/a.png", "in/b.png", "truth/a.tif", "truth/b.png", "truth/b.tif"):
        put(place / name)
    jobs = plan.plan_jobs(["in"], "out", reference="truth")
    assert [job.reference for job in jobs] == [
        pathlib.Path("truth/a.tif"),
        pathlib.Path("truth/b.png"),
    ]
    put(place / "in/c.png")
    with pytest.raises(ValueError, match=r"truth has no reference called c\.png"):
        plan.plan_jobs(["in"], "out", reference="truth")
    (job,) = plan.plan_jobs(["in/c.png"], "out", reference="truth/a.tif")
    assert job.reference == pathlib.Path("truth/a.tif")


def test_skip_existing(place):
    for name in ("a.png", "b.png", "out/b.png"):
        put(place / name)
    jobs = plan.plan_jobs(["a.png", "b.png"], "out")
    assert plan.skip_existing(jobs) == jobs[:1]
    itself = plan.plan_jobs(["a.png"], "a.png")
    assert plan.skip_existing(itself) == itself


def test_patterns_name_each_image_once(place):
    """Though they match it, and the folders that it lies in; and nothing but images."""
    for name in ("a/x.png", "a/sub/x.png", "a/sub/y.png"):
        put(place / name)
    for name in ("notes.txt", "sub/none/z.txt"):
        (place / "a" / name).parent.mkdir(exist_ok=True)
        (place / "a" / name).write_text("")
    for pattern, found in (
        ("a/**", {"x.png": "a/x.png", "sub/x.png": "a/sub/x.png", "sub/y.png": "a/sub/y.png"}),
        ("a/s*/**/y*", {"y.png": "a/sub/y.png"}),
        ("a/[nx]*", {"x.png": "a/x.png"}),
    ):
        jobs = plan.plan_jobs([pattern], "out")
        assert {str(job.target): str(job.source) for job in jobs} == {
            f"out/{name}": source for name, source in found.items()
        }
    for pattern in ("a/n*", "a/**/n*e", "q*"):
        with pytest.raises(ValueError, match=r"no image matches .*; check the pattern"):
            plan.plan_jobs([pattern], "out")


def test_patterns_below_folders_with_brackets(place):
    """Leading folders that exist are literal, whatever their names."""
    first, second = (f"photos [2024]/a [v2]/{name}.png" for name in ("[c]", "b"))
    for name in (first, second, "photos 2/d.png"):
        put(place / name)
    for pattern, found in (
        ("photos [2024]/*/*.png", [first, second]),
        ("photos [2024]/a [v2]/[c].png", [first]),
        ("photos [2024]/a [v2]/[[]*", [first]),
        ("photos [2024]/**/b*", [second]),
        ("photos [0-9]/*", ["photos 2/d.png"]),
        (f"{place}/photos [2024]/*/b.png", [f"{place}/{second}"]),
    ):
        jobs = plan.plan_jobs([pattern], "out")
        assert [str(job.source) for job in jobs] == found, pattern


def test_links_below_a_pattern(place):
    """Links to folders above give no image twice; others count, except for "**"."""
    put(place / "g" / "x.png")
    put(place / "other" / "y.png")
    for name, target in (("l1", "."), ("l2", "."), ("l3", ".."), ("set", "../other")):
        (place / "g" / name).symlink_to(target)
    (place / "g" / "self").symlink_to("self")
    for pattern, found in (
        ("g/**/*.png", ["g/x.png"]),
        ("g/**", ["g/x.png"]),
        ("g/*/*.png", ["g/set/y.png"]),
        ("g/*", ["g/set/y.png", "g/x.png"]),
        ("g/*/../g/*.png", ["g/set/../g/x.png"]),
        ("g/l*/*.png", []),
        ("*/l1/*.png", ["g/l1/x.png"]),  # named
    ):
        if found:
            jobs = plan.plan_jobs([pattern], "out")
            assert [str(job.source) for job in jobs] == found, pattern
        else:
            with pytest.raises(ValueError, match="no image matches"):
                plan.plan_jobs([pattern], "out")


def test_a_result_beside_its_image(place):
    put(place / "in/a.JPG")
    (job,) = plan.plan_jobs(["in/a.JPG"], None)
    assert job == plan.Job(pathlib.Path("in/a.JPG"), pathlib.Path("in/a.restored.JPG"))
    put(place / "truth/a.png")
    (job,) = plan.plan_jobs(["in/a.JPG"], None, reference="truth")
    assert job.reference == pathlib.Path("truth/a.png")
    for inputs in ([], ["in"], ["in/*.JPG"], ["-"], ["in/a.JPG"] * 2):
        with pytest.raises(ValueError, match=r"give the folder for the results, as -o restored/"):
            plan.plan_jobs(inputs, None)
    with pytest.raises(ValueError, match=r"^photo\.xyz has no suffix of a format in which"):
        plan.plan_jobs(["photo.xyz"], None)


def test_other_files(place):
    """Of folders and patterns, but neither hidden ones nor results."""
    for name in ("in/a.png", "in/sub/b.png", "in/out/c.png", "else/d.png"):
        put(place / name)
    for name in ("in/n.txt", "in/sub/m.mp4", "in/.h.txt", "in/out/o.txt", "else/p.txt", "q.txt"):
        (place / name).write_text("")
    (place / "in" / "link").symlink_to("../else")
    for inputs, names in (
        (["in"], ["in/link", "in/n.txt", "in/sub/m.mp4"]),
        (["in", "else"], ["in/link", "in/n.txt", "in/sub/m.mp4", "else/p.txt"]),
        (["in/sub/*"], ["in/sub/m.mp4"]),
        (["in/sub/*.png", "-"], []),
        (["q.txt"], []),  # named, so it fails by name
    ):
        others: list[pathlib.Path] = []
        plan.plan_jobs(inputs, "in/out", others=others, stdin_paths=["in/a.png"])
        assert [str(path) for path in others] == names
    assert plan.describe_kinds(
        map(pathlib.Path, ["in/link", "a.B", "q.txt", "R.TXT", "c", "in/.d"])
    ) == ("2 .txt, 2 without a suffix, 1 .b, 1 linked folder")


def test_earlier_results_in_a_folder(tmp_path, monkeypatch):
    """One photo is restored first, then its folder: the result is no photo to restore."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "a.restored.png", "b.restored.png"):
        put(tmp_path / "in" / name)
    assert plan.plan_jobs(["in/a.png"], None)[0].target == pathlib.Path("in/a.restored.png")
    others: list[pathlib.Path] = []
    jobs = plan.plan_jobs(["in"], "out", others=others)
    assert [job.source.name for job in jobs] == ["a.png", "b.restored.png"]
    assert plan.describe_kinds(others) == "1 earlier result"
    (named,) = plan.plan_jobs(["in/a.restored.png"], "out/")
    assert named.source.name == "a.restored.png"


def test_standard_output_is_no_result(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"standard output; name a file or folder \(\./- for"):
        plan.plan_jobs(["a.png"], "-")
    assert plan.plan_jobs(["a.png"], "./-")[0].target == pathlib.Path("-", "a.png")


def test_null_bytes_in_a_list():
    with pytest.raises(ValueError, match="leave out -print0, and give one path per line"):
        plan.plan_jobs(["-"], "out", stdin_paths=["a.png\0b.png\0"])


def test_a_bucket(bucket, monkeypatch):
    """The same plan as for a folder; each folder is listed once."""
    for name in (
        *("in/b.png", "in/sub/a.PNG", "in/.hidden/c.png", "in/.d.png", "in/out/e.png"),
        *("in/notes.txt", "f[1].png", "in/out/sub/a.PNG", "truth/a.tif", "truth/f[1].tif"),
    ):
        storage.write(storage.to_path(f"{bucket}/{name}"), b"")
    lists, find = [], storage.buckets.get_filesystem(storage.to_path(bucket)).find
    monkeypatch.setattr(
        storage.buckets.get_filesystem(storage.to_path(bucket)),
        "find",
        lambda path, detail: (lists.append(path), find(path, detail=detail))[1],
    )
    others: list[pathlib.Path] = []
    found = planned(
        *(f"{bucket}/in", "-"),
        output=f"{bucket}/in/out",
        stdin_paths=[f"{bucket}/f[1].png\n", f"{bucket}/in/b.png\r\n"],
        others=others,
    )
    assert found == {
        f"{bucket}/in/out/b.png": f"{bucket}/in/b.png",
        f"{bucket}/in/out/sub/a.PNG": f"{bucket}/in/sub/a.PNG",
        f"{bucket}/in/out/f[1].png": f"{bucket}/f[1].png",
    }
    assert list(map(str, others)) == [f"{bucket}/in/notes.txt"]
    assert lists == [f"{bucket}/in", bucket, f"{bucket}/in", f"{bucket}/in/out"]
    lists.clear()
    assert planned(f"{bucket}/in/**/*.[p][n][g]", f"{bucket}/in/s*", output=f"{bucket}/new") == {
        f"{bucket}/new/{name}": f"{bucket}/in/{place}{name}"
        for place, name in (("", "b.png"), ("out/", "e.png"), ("sub/", "a.PNG"))
    }
    assert lists == [f"{bucket}/in", f"{bucket}/in", f"{bucket}/new"]
    (job,) = plan.plan_jobs([f"{bucket}/f[1].png"], None)
    assert str(job.target) == f"{bucket}/f[1].restored.png"


def test_results_in_a_bucket(bucket, place):
    for name in ("a.png", "sub/b.png"):
        put(place / "in" / name)
    storage.write(storage.to_path(f"{bucket}/out/sub/b.png"), b"")
    storage.write(storage.to_path(f"{bucket}/truth/a.tif"), b"")
    jobs = plan.plan_jobs(["in"], f"{bucket}/out")
    assert [str(job.target) for job in jobs] == [f"{bucket}/out/a.png", f"{bucket}/out/sub/b.png"]
    plain = [plan.Job(job.source, storage.to_path(str(job.target))) for job in jobs]
    assert plan.skip_existing(jobs) == plan.skip_existing(plain) == jobs[:1]
    itself = plan.plan_jobs([f"{bucket}/out/sub/b.png"], f"{bucket}/out/sub/b.png")
    assert plan.skip_existing(itself) == itself
    (job,) = plan.plan_jobs(["in/a.png"], "out.png", reference=f"{bucket}/truth/a.tif")
    assert str(job.reference) == f"{bucket}/truth/a.tif"
    (job,) = plan.plan_jobs(["in/*.png"], "out", reference=f"{bucket}/truth")
    assert str(job.reference) == f"{bucket}/truth/a.tif"
    with pytest.raises(ValueError, match=r"truth has no reference called sub/b\.png"):
        plan.plan_jobs(["in"], "out", reference=f"{bucket}/truth")


@pytest.mark.parametrize(
    ("inputs", "output", "message"),
    [
        (["{0}/none/*.png"], "out", "no image matches gs://.*none"),
        (["{0}/none"], "{0}/out", "^$"),
        (["gs://b*/x.png"], "out", "the name of a bucket cannot be a pattern"),
        (["{0}/x"], "{0}/o.png", "o.png is the name of one image; give a folder"),
        (["{0}/x"], "{0}/notes", "notes is a file; give a folder"),
        (["gs://no-such/x"], "out", "the bucket gs://no-such does not exist"),
        (["{0}/x"], "gs://no-such/out", "the bucket gs://no-such does not exist"),
    ],
)
def test_mistakes_in_a_bucket(bucket, inputs, output, message):
    for name in ("x/a.png", "notes"):
        storage.write(storage.to_path(f"{bucket}/{name}"), b"")
    if message == "^$":  # reported when it is read, as a local file is
        assert planned(inputs[0].format(bucket), output=output.format(bucket))
        return
    with pytest.raises((ValueError, storage.StorageError), match=message):
        plan.plan_jobs([text.format(bucket) for text in inputs], output.format(bucket))
