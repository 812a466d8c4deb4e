"""Tables of scores, written from results.json files."""

import functools
import importlib.util
import json
import pathlib

import pytest

from lcdnet_jax import weights as weights_lib
from lcdnet_jax.weights import card as card_lib
from lcdnet_jax.weights import pretrained

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = "# Scores\n\n<!-- results: small -->\nold\n<!-- end of results -->\n\nText.\n"
WRITTEN = """# Scores

<!-- results: small -->
| data set | sigma | noisy | `float` | SSIM | `8bit` | SSIM | published: CBM3D | published: DnCNN |
|---|---|---|---|---|---|---|---|---|
| Kodak24 | 15 | 20.12 | **38.50** | 0.9000 | **38.50** | 0.9000 | | |
| Kodak24 | 25 | 20.12 | **37.50** | 0.9000 | **37.50** | 0.9000 | | |
| Kodak24 | 30 | 20.12 | **-** | 0.9000 | **37.00** | 0.9000 | 30.90 | |
| Kodak24 | 50 | 20.12 | **35.00** | 0.9000 | **35.00** | 0.9000 | | |
| Kodak24 | 70 | 20.12 | **33.00** | 0.9000 | **33.00** | 0.9000 | | |

Published: A paper, table 3.

```
# 2026-11-30, AMD EPYC, lcdnet_jax 0.1.0, jax 0.10.1
python eval.py --checkpoint small --data kodak24 --sigmas 15,25,30,50,70 \\
    --protocols float,8bit --output eval
```
<!-- end of results -->

Text.
"""
PUBLISHED = [{"dataset": "kodak24", "sigma": 30, "CBM3D": 30.9, "source": "A paper, table 3"}]


def make_row(sigma, protocol, **changes):
    row = {
        "dataset": "kodak24", "sigma": float(sigma), "protocol": protocol, "mode": "full",
        "psnr": 40 - sigma / 10, "ssim": 0.9, "input_psnr": 20.125, "n": 24, "weights": "x",
        "command": "python eval.py --checkpoint small --data kodak24 --sigmas 15,25,30,50,70 "
                   "--protocols float,8bit --output eval",
        "date": "2026-11-30", "processor": "AMD EPYC", "lcdnet_jax": "0.1.0", "jax": "0.10.1",
    }  # fmt: skip
    return row | changes


@pytest.fixture
def module():
    spec = importlib.util.spec_from_file_location("results_tables", ROOT / "docs/results_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tables(module, monkeypatch):
    table = functools.partial(
        module.noise,
        weights="small",
        sets=[("kodak24", "Kodak24", (15, 25, 30, 50, 70))],
        methods=("CBM3D", "DnCNN"),
    )
    monkeypatch.setitem(module.TABLES, "small", table)
    return module


@pytest.fixture
def rows():
    """The rows of a file, which can be changed before they are written."""
    return [make_row(sigma, one) for one in ("float", "8bit") for sigma in (15, 25, 30, 50, 70)]


def update(tables, folder, rows, page=PAGE, name="kodak24"):
    (folder / "small").mkdir(exist_ok=True)
    (folder / f"small/{name}.json").write_text(json.dumps(rows))
    (folder / "published.json").write_text(json.dumps(PUBLISHED))
    return tables.update(page, folder)


def test_a_page(tables, tmp_path, rows):
    rows[2] |= {"psnr": None}  # JSON has no infinity
    text = update(tables, tmp_path, rows)
    assert text == WRITTEN
    assert tables.update(text, tmp_path) == text


def test_commands_that_differ_in_the_data_set_are_one_loop(module):
    row = {"date": "2026-11-30", "processor": "AMD EPYC", "lcdnet_jax": "0.1.0", "jax": "0.10.1"}
    command = "python eval.py --data {} --output eval/small-{}"
    names = ("cc", "polyu", "cc")
    rows = [row | {"command": command.format(name, name)} for name in names]
    other = row | {"command": "python eval.py --data sidd --output eval/other"}
    assert module._commands([*rows, other]) == (
        "# 2026-11-30, AMD EPYC, lcdnet_jax 0.1.0, jax 0.10.1\n"
        "for set in cc polyu; do\n"
        "    python eval.py --data $set --output eval/small-$set\n"
        "done\n"
        "python eval.py --data sidd --output eval/other\n"
    )


def test_a_missing_row(tables, tmp_path, rows):
    with pytest.raises(tables.ResultsError, match=r"small has the data set kodak24, protocol 8bit, "
                       r"sigma 70, mode full; score them by eval\.py"):  # fmt: skip
        update(tables, tmp_path, rows[:-1])


def test_a_missing_field(tables, tmp_path, rows):
    del rows[3]["command"]
    with pytest.raises(tables.ResultsError, match=r"kodak24\.json: a row has no command; run eval"):
        update(tables, tmp_path, rows)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], r"kodak24\.json: a row is 1, not an object; run eval"),
        ({"rows": []}, r"kodak24\.json: holds \{'rows': \[\]\}, not a list of rows; run eval"),
        (None, r"kodak24\.json: holds None, not a list of rows"),
        (
            [make_row(15, "float") | {"sigma": [15], "psnr": "high"}],
            r"kodak24\.json: a row has sigma \[15\], psnr 'high', of another type; run eval",
        ),
    ],
)
def test_another_content(tables, tmp_path, content, message):
    with pytest.raises(tables.ResultsError, match=message):
        update(tables, tmp_path, content)


def test_published_scores_of_another_content(tables, tmp_path):
    (tmp_path / "published.json").write_text('["CBM3D"]')
    with pytest.raises(
        tables.ResultsError, match=r"published\.json: a row is 'CBM3D', not an object"
    ):
        tables.update(PAGE, tmp_path)


def test_an_unreadable_file(tables, tmp_path):
    with pytest.raises(tables.ResultsError, match=r"cannot read .*published\.json: "):
        tables.update(PAGE, tmp_path)
    (tmp_path / "small").mkdir()
    (tmp_path / "small/cc.json").write_text("{")
    with pytest.raises(tables.ResultsError, match=r"cannot read .*cc\.json: "):
        tables.update(PAGE, tmp_path)


def test_two_files_with_one_score(tables, tmp_path, rows):
    update(tables, tmp_path, rows)
    with pytest.raises(tables.ResultsError, match=r"second\.json: another file has .*kodak24"):
        update(tables, tmp_path, rows[:1], name="second")


class TestNotebooks:
    @pytest.fixture
    def table(self, module, monkeypatch, tmp_path):
        """Updates a page with a table of a notebook."""
        (tmp_path / "published.json").write_text("[]")
        table = functools.partial(module.notebook, name="ours", column="width", folder=tmp_path)
        monkeypatch.setitem(module.TABLES, "small", table)

        def update(cells):
            (tmp_path / "ours.ipynb").write_text(json.dumps({"cells": cells}))
            return module.update(PAGE, tmp_path)

        return update

    @pytest.fixture
    def cells(self):
        """A cell of text, and one with a picture and three tables as outputs."""
        tables = (
            "| row |\n|---|\n| a |",
            "| width | |\n|---|---|\n| 1 | |\n",
            "| width |\n|---|\n| 2 |\n",
        )
        outputs = [{"data": {"text/markdown": text.splitlines(keepends=True)}} for text in tables]
        return [{"source": "text"}, {"outputs": [{"data": {"image/png": "x"}}, *outputs]}]

    def test_a_table(self, table, cells):
        block = "<!-- results: small -->\n| width | |\n|---|---|\n| 1 | |\n<!-- end of results -->"
        assert block in table(cells)

    def test_mistakes(self, module, table, cells):
        del cells[1]["outputs"][2:]
        with pytest.raises(module.ResultsError, match=r"ours\.ipynb has no table .* width; run"):
            table(cells)
        for content in (None, [1], [{"outputs": [{"data": 3}]}]):
            with pytest.raises(module.ResultsError, match=r"cannot read .*ours\.ipynb"):
                table(content)


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (
            "<!-- results: other -->\n<!-- end of results -->\n",
            "no table 'other'; known are readme",
        ),
        ("<!-- results: small -->\n", "needs a line '<!-- end of results -->' below"),
        (f"<!-- results: small -->\n{PAGE}", "needs a line"),
    ],
)
def test_mistakes_of_a_page(tables, tmp_path, rows, page, message):
    with pytest.raises(tables.ResultsError, match=message):
        update(tables, tmp_path, rows, page)


def test_pages_are_current(module):
    pages = module.pages()
    assert {page.name for page in pages} >= {"README.md", "pretrained.md"}
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert text == module.update(text), f"{page}: run python docs/results_tables.py"


def test_every_table_is_in_a_page(module):
    text = "".join(page.read_text(encoding="utf-8") for page in module.pages())
    assert [name for name in module.TABLES if f"<!-- results: {name} -->" not in text] == []


def test_files_are_of_the_weights_in_the_repository(module):
    for path in module.DATA.glob("*/*.json"):
        name = path.parent.name
        file = ROOT / f"checkpoints/{name}.safetensors"
        card = weights_lib.load_card(file if file.exists() else pretrained.path(name))
        rows = json.loads(path.read_text(encoding="utf-8"))
        assert {row["weights"] for row in rows} == {card_lib.format_identity(card)}, path
