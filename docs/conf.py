"""Settings of Sphinx: ``make docs`` writes the pages to ``docs/_build/html``."""

from docutils import nodes
from docutils.utils.math import latex2mathml
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

from mmps_kd import __version__ as release

project = 'mmps_kd'
author = 'the authors of mmps_kd'
copyright = author

extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
exclude_patterns = ['_build']
html_theme = 'furo'
html_title = f'mmps_kd {release}'
toc_object_entries_show_parents = 'hide'

# Headings get anchors as on GitHub, so that links to them work in both places.
myst_heading_anchors = 3
myst_enable_extensions = ['dollarmath']

autodoc_member_order = 'bysource'
autodoc_typehints = 'description'
autodoc_typehints_description_target = 'documented'
# What is inherited from mmdet is documented there.
autodoc_inherit_docstrings = False

# MathJax, Sphinx's default, is loaded from the network when a page is read.
html_math_renderer = 'mathml'


def visit_math(self: HTML5Translator, node: nodes.math) -> None:
    """Write a formula in a line."""
    self.body.append(latex2mathml.tex2mathml(node.astext()))
    raise nodes.SkipNode


def visit_math_block(self: HTML5Translator, node: nodes.math_block) -> None:
    """Write a formula on a line of its own."""
    self.body.append(latex2mathml.tex2mathml(node.astext(), as_block=True))
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Add the renderer of formulas."""
    app.add_html_math_renderer('mathml', inline_renderers=(visit_math, None), block_renderers=(visit_math_block, None))
