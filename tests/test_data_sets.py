"""Registry of data sets: its rows, and what reads them."""

import pathlib
import re

import pytest

from lcdnet_jax import data_sets, protocols
from lcdnet_jax.data_sets import DATA_SETS, DataSet

ROOT = pathlib.Path(__file__).parents[1]


def markdown(row: DataSet) -> str:
    """The row as docs/reference/data_sets.md shows it."""
    splits = ", ".join(
        f"{split} ({count:,})" if count else split for split, count in row.splits.items()
    )
    cells = [f"`{row.name}`", row.pairs, splits or "-", row.description]
    return f"| {' | '.join(cells)} |"


def test_rows_are_found_by_their_name():
    assert all(row.name == name for name, row in DATA_SETS.items())
    assert tuple(name for name in DATA_SETS if name != "dnd") == data_sets.SOURCES
    gopro, hide = data_sets.rows("gopro, hide")
    assert (gopro.name, hide.name) == ("gopro", "hide")
    with pytest.raises(ValueError, match="no data set 'web'; known data sets: photos, folder, tfd"):
        data_sets.rows("gopro,web")


@pytest.mark.parametrize("row", DATA_SETS.values(), ids=DATA_SETS)
def test_rows_agree_with_themselves(row):
    assert protocols.get(row.protocol).noise is None
    assert row.pairs not in ("none", "any") or row.protocol == "pairs"
    assert row.two_views is False or row.pairs in ("defocus", "any")
    assert row.bits in (8, 16)
    for whole, parts in row.groups.items():
        assert row.splits[whole] == sum(row.splits[part] for part in parts)


def test_published_counts():
    """Of the data sets' own pages and papers, added up by hand."""
    counts = {name: row.splits for name, row in DATA_SETS.items()}
    assert sum(counts["gopro"].values()) == sum(counts["gopro_gamma"].values()) == 3214
    assert counts["reds"] == counts["reds_jpeg"] == {"train": 240 * 100, "val": 30 * 100}
    assert sum(counts["div2k"].values()) == 900
    assert sum(counts["hide"].values()) == 8422
    assert sum(counts["realblur_j"].values()) == sum(counts["realblur_r"].values()) == 4738
    for name in ("dpdd", "dpdd_dual"):
        by_split = counts[name]
        assert by_split["train"] + by_split["val"] + by_split["test"] == 500
        assert by_split["test_indoor"] + by_split["test_outdoor"] == by_split["test"]
    assert counts["rain13k"]["test"] == 98 + 100 + 100 + 2800 + 1200


def test_the_default_config_names_every_row_and_split():
    text = (ROOT / "configs/default.py").read_text()
    comment = text[: text.index("config.data.train = ")]
    words = set(re.findall(r"\w+", comment[comment.index("# Where training images come from") :]))
    for name in data_sets.SOURCES:
        assert name in words, f"the comment on config.data.train does not name {name}"
        missing = [split for split in DATA_SETS[name].splits if split not in words]
        assert not missing, f"the comment on config.data.train names no splits {missing} of {name}"


def test_the_docs_show_every_row():
    lines = (ROOT / "docs/reference/data_sets.md").read_text().splitlines()
    shown = [line for line in lines if line.startswith("| `")]
    expected = [markdown(row) for row in DATA_SETS.values()]
    assert shown == expected, "docs/reference/data_sets.md must have:\n" + "\n".join(expected)
