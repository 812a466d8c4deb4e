"""The long description of the package: README.md with links that work outside of the repository.

Everything else about the package is in pyproject.toml.
"""

import pathlib
import re
import runpy
import tomllib

from setuptools import setup

ROOT = pathlib.Path(__file__).resolve().parent
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
VERSION = runpy.run_path(str(ROOT / "lcdnet_jax" / "_version.py"))["__version__"]


def make_absolute(link: re.Match[str]) -> str:
    """Makes a Markdown link to a file of the repository, or an image of it, absolute."""
    start, target = link.groups()
    kind = "raw" if start.startswith("!") else "blob"
    return f"{start}({REPOSITORY}/{kind}/v{VERSION}/{target})"


setup(
    long_description=re.sub(
        r"(!?\[[^\]]*\])\((?!https://|#)([^)]+)\)",
        make_absolute,
        (ROOT / "README.md").read_text(encoding="utf-8"),
    ),
    long_description_content_type="text/markdown",
)
