"""Sphinx configuration. The sources it reads are laid out by `stage.py` under build/docs/source."""

from configparser import ConfigParser
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from docutils import nodes
from sphinx.addnodes import download_reference

HERE = Path(__file__).parent
parser = ConfigParser(delimiters=["="])
parser.read(HERE.parent / "settings.ini", encoding="utf-8")
settings = parser["DEFAULT"]

project, version, author = settings["title"], settings["version"], settings["author"]
release, copyright, language = version, settings["copyright"], "en"

extensions = ["myst_nb", "sphinx_copybutton", "sphinx_design", "sphinx.ext.mathjax"]
templates_path = [str(HERE / "templates")]
nitpicky = True
exclude_patterns = ["mathjax/" + part for part in ("sre", "output/svg", "input/mml", "*svg*", "*mml*", "*full*", "node-main.js")]

# Notebooks are shown as they were committed.
nb_execution_mode = "off"
nb_render_markdown_format = "myst"
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
copybutton_selector = "div:not(.cell_output):not(.highlight-text) > div.highlight pre"  # of input, not of output

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = f"{project} {version}"
mathjax = find_spec("sphinx-mathjax-offline").submodule_search_locations[0]  # its files; loaded, it forbids parallel reading
mathjax_path = "mathjax/tex-chtml.js"
html_static_path = [str(HERE / "static"), f"{mathjax}/static"]
html_css_files = ["site.css"]
html_favicon = str(HERE / "static" / "icon.svg")
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "source_view_link": "{filename}",  # replaced by the page's Markdown twin in templates/components
    "light_css_variables": {"color-brand-primary": "#0b5d8a", "color-brand-content": "#0b5d8a"},
    "dark_css_variables": {"color-brand-primary": "#7cc4ee", "color-brand-content": "#7cc4ee"},
}


def link_plainly(app, doctree):
    "Link files where `build.py` puts them, at their place in the repository, instead of copies under other names."
    here = PurePosixPath(app.env.docname).parent
    for node in list(doctree.findall(download_reference)):
        uri = "../" * len(here.parts) + node["reftarget"].lstrip("/") if node["reftarget"].startswith("/") else node["reftarget"]
        node.replace_self(nodes.reference("", "", *node.children, refuri=uri, internal=True))


def setup(app):
    app.connect("doctree-read", link_plainly, priority=100)  # before Sphinx collects downloads
