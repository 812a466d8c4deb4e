"""Sphinx settings of the documentation: ``make docs`` writes docs/_build/html.

A warning fails the build: a link to a page, a heading or a file that does not exist, a reference
in a docstring to a name that does not exist, a docstring that does not render.
"""

import os
import pathlib
import re
import sys
import tomllib

DOCS = pathlib.Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path[:0] = [str(DOCS), str(ROOT)]

import gallery  # noqa: E402
import references  # noqa: E402

from lcdnet_jax._version import __version__  # noqa: E402

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REPOSITORY = PROJECT["urls"]["Repository"]

project = "lcdnet_jax"
author = "The lcdnet_jax authors"
copyright = "2026, the lcdnet_jax authors"
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_design",
]
exclude_patterns = ["_build", "gallery/_cards.md"]
nitpicky = True
nitpick_ignore_regex = [("py:class", r"jax\.jaxlib\..*")]  # where Sphinx finds jax.Array

html_theme = "sphinx_book_theme"
html_title = "lcdnet_jax"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "repository_url": REPOSITORY,
    "path_to_docs": "docs",
    "use_repository_button": True,
    "use_issues_button": True,
    "navbar_persistent": [],  # the search button is in the sidebar
}

# Headings are anchors, as on GitHub; a link to a heading that does not exist is a warning.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
highlight_language = "none"  # blocks without a language are commands and their output
nb_execution_mode = "off"  # notebooks are stored with their outputs

autodoc_typehints = "none"  # shapes and types stand in the text
autodoc_member_order = "bysource"
autodoc_default_options = {"exclude-members": "setup"}  # of Flax modules
napoleon_use_ivar = True
napoleon_use_rtype = False

LINK = re.compile(r"(?<=\]\()(\.\.?/[^)\s#]+)(#[^)\s]*)?(?=\))")


def link_files_of_the_repository(app, page, source):
    """Relative links that leave docs/ work in a clone; on the site they lead to the repository."""
    folder = (app.srcdir / page).parent

    def replace(match):
        path = pathlib.Path(os.path.normpath(folder / match[1]))
        if path.is_relative_to(app.srcdir) or not path.exists():
            return match[0]  # of a page, or for Sphinx to complain about
        name = path.relative_to(ROOT).as_posix()
        if path.suffix == ".ipynb":
            return f"/gallery/{path.name}"
        return f"{REPOSITORY}/{'tree' if path.is_dir() else 'blob'}/main/{name}{match[2] or ''}"

    source[0] = LINK.sub(replace, source[0])


def setup(app):
    """Called by Sphinx."""
    app.connect("builder-inited", gallery.write)
    app.connect("source-read", link_files_of_the_repository)
    app.connect("autodoc-process-docstring", references.describe_constant)
    app.connect("missing-reference", references.resolve)
