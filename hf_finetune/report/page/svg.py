"""A matplotlib figure as SVG that stands inside an HTML page, in the page's own colours and fonts.

Colours are drawn as marks that stand for the page's variables, so that one picture serves the light and the dark
scheme and paper. Texts stay texts. matplotlib is imported where a picture is drawn and by nobody else, and never its
pyplot, which keeps figures and picks a window system.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, RULE, HEAT_INK = "#000101", "#000102", "#000103"
SERIES = ("#000201", "#000202", "#000203", "#000204")
HEAT = tuple(f"#0003{level:02x}" for level in range(11))  # from none to all
_VARIABLES = {
    INK: "currentColor",
    RULE: "var(--rule)",
    HEAT_INK: "var(--heat-ink)",
    **{mark: f"var(--series-{number})" for number, mark in enumerate(SERIES, 1)},
    **{mark: f"var(--heat-{level})" for level, mark in enumerate(HEAT)},
}
_COLOUR, _FONT = re.compile(r"#[0-9a-f]{6}\b"), re.compile(r"font: ([^;']*?)'[^;]*")
_WIDTH = 5.0  # inches; at the 390 pixels of a phone a letter keeps its size
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "hf_finetune",
    "text.parse_math": False,  # a class may be called $5
    "font.family": "DejaVu Sans",  # what matplotlib brings; the page's style sets its own
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.edgecolor": RULE,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def drawn(name: str, draw: Callable[[Axes], None], height: float = 3.0) -> str:
    """What `draw` makes of empty axes, `height` inches high, as an `<svg>` element.

    `name` opens every id in it: no two pictures of a page may have the same. The same drawing gives the same text.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(), _missing_glyphs_are_the_readers():
        mpl.rcdefaults()  # whatever the user's matplotlibrc says
        mpl.rcParams.update(_SETTINGS)
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        draw(figure.subplots())
        found = io.BytesIO()
        figure.savefig(found, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inlined(found.getvalue(), name)


@contextmanager
def _missing_glyphs_are_the_readers() -> Iterator[None]:
    """The reader's own fonts show the text; that the one which measures it lacks a letter concerns nobody."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support", category=UserWarning)
        yield


def _inlined(svg: bytes, name: str) -> str:
    """Without prologue, namespaces, metadata and styles of its own, which would hold for the whole page."""
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        for child in list(parent):
            if _bare(child.tag) in ("metadata", "style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = _bare(element.tag)
        attributes = {_bare(key): value for key, value in element.attrib.items()}
        element.attrib.clear()
        element.attrib.update({key: _attribute(key, value, name) for key, value in attributes.items()})
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.attrib.update({"aria-hidden": "true", "focusable": "false"})
    return ElementTree.tostring(root, encoding="unicode")


def _bare(name: str) -> str:
    return name.rpartition("}")[2]


def _attribute(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key == "href":
        return f"#{name}-{value.removeprefix('#')}"
    if key == "style":
        value = _FONT.sub(lambda match: f"font: {match[1]}sans-serif", value)
        return _COLOUR.sub(lambda match: _VARIABLES.get(match[0], match[0]), value)
    return value.replace("url(#", f"url(#{name}-")
