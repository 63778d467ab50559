"""How the documentation site is built: `make docs`. Nothing is fetched; formulas are MathML, fonts are the reader's own."""

import sys
from pathlib import Path

from focus_framework import __version__

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "FOCUS Framework"
author = "the authors of FOCUS Framework"
version = release = __version__
language = "en"
smartquotes = False  # "--set" is an option, not a dash

extensions = ["myst_parser", "configuration", "mathml", "python_api"]
exclude_patterns = ["extensions"]
suppress_warnings = ["config.cache"]  # none of the settings below changes between two builds of one version

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

highlight_language = "text"  # blocks without a language are commands and listings
default_role = "code"  # docstrings write `code` in single backticks
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_type_aliases = {"ImageLike": "ImageLike", "NDArray": "NDArray"}  # signatures say these names, not what is behind them
python_use_unqualified_type_names = True
python_display_short_literal_types = True
add_module_names = False
html_math_renderer = "mathml"
# Types of other libraries have no inventory without a network; aliases and inner classes are told in words. That no public name is
# missing is a test's business.
nitpick_ignore_regex = [
    ("py:.*", r"(torch|numpy|PIL|torchmetrics|collections|os|pathlib|typing|nn|np)\..*"),
    ("py:class", r"[A-Z]\w*"),
    ("py:class", r"focus_framework\.(?!metrics|ops)\w+\..*"),
]

html_theme = "furo"
html_title = f"FOCUS Framework {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
html_theme_options = {"navigation_with_keys": True}
