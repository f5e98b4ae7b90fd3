"""The site of these pages: `make docs`. Warnings, such as a link to a missing page or heading, fail the build."""

project = "chatcore"
html_title = "chatcore"
language = "en"

extensions = ["myst_parser"]
myst_heading_anchors = 3
exclude_patterns = ["conf.py"]

html_theme = "alabaster"
html_theme_options = {"description": "A multi-user AI chat backend", "show_powered_by": False, "page_width": "70rem"}
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
