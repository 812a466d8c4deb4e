"""Gallery of the notebooks: copies them into the site and draws a card for each.

The notebooks are stored in notebooks/ with their outputs and are not run here. The picture of a
card is one that the notebook shows. Written files are listed in .gitignore.
"""

import base64
import io
import json
import pathlib
from typing import Any

from PIL import Image

DOCS = pathlib.Path(__file__).resolve().parent
NOTEBOOKS = DOCS.parent / "notebooks"
FOLDER = DOCS / "gallery"
THUMBNAIL = 480, 320  # pixels


def write(app: Any) -> None:
    """Writes notebooks, thumbnails and cards to docs/gallery/.

    Args:
        app: Sphinx; not used.
    """
    cards = []
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        text = path.read_text(encoding="utf-8")
        notebook = json.loads(text)
        # Links start in notebooks/, the copy lies in docs/gallery/.
        text = text.replace("](../", "](../../").replace("](../../docs/", "](../")
        (FOLDER / path.name).write_text(text, encoding="utf-8")
        thumbnail(notebook).save(FOLDER / f"{path.stem}.png")
        cards.append(
            f":::{{grid-item-card}} {title(notebook)}\n:img-top: {path.stem}.png\n"
            f":link: {path.stem}\n:link-type: doc\n:::"
        )
    text = "::::{grid} 1 2 2 3\n:gutter: 3\n\n" + "\n\n".join(cards) + "\n::::\n"
    (FOLDER / "_cards.md").write_text(text, encoding="utf-8")


def title(notebook: dict[str, Any]) -> str:
    """The first heading of a notebook.

    Args:
        notebook: As JSON.

    Returns:
        Its text.
    """
    lines = (
        line
        for cell in notebook["cells"]
        if cell["cell_type"] == "markdown"
        for line in "".join(cell["source"]).splitlines()
    )
    return next(line.removeprefix("# ") for line in lines if line.startswith("# "))


def thumbnail(notebook: dict[str, Any]) -> Image.Image:
    """The middle of the picture in the cell tagged "thumbnail", or else of the last picture.

    Args:
        notebook: As JSON.

    Returns:
        An image of ``THUMBNAIL`` pixels.
    """
    pictures = [
        ("thumbnail" in cell["metadata"].get("tags", ()), output["data"]["image/png"])
        for cell in notebook["cells"]
        for output in cell.get("outputs", ())
        if "image/png" in output.get("data", {})
    ]
    _, encoded = next((found for found in pictures if found[0]), pictures[-1])
    image = Image.open(io.BytesIO(base64.b64decode("".join(encoded)))).convert("RGB")
    image.thumbnail(THUMBNAIL)
    card = Image.new("RGB", THUMBNAIL, "white")
    card.paste(image, tuple((c - i) // 2 for c, i in zip(THUMBNAIL, image.size, strict=True)))
    return card
