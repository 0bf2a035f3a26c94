"""A page as one HTML file that asks nothing of the network and needs no script."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from hf_finetune.report.page.structure import Page
from hf_finetune.report.page.texts import printable

if TYPE_CHECKING:
    from jinja2 import Environment


def render(page: Page) -> str:
    """The whole file, as text. The same page gives the same text."""
    from markupsafe import Markup

    environment = _environment()
    style = environment.get_template("style.css").render()
    return environment.get_template("page.html").render(page=page, style=Markup(style))


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("hf_finetune.report.page"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_one_line,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["lines_kept"] = _lines_kept
    return made


def _one_line(value: object) -> object:
    """Every text but one that is marked as HTML: a name may hold what no HTML file can."""
    return printable(value) if type(value) is str else value


def _lines_kept(text: str) -> object:
    """The text of a `Code`, escaped, with its line breaks."""
    from markupsafe import Markup, escape

    return Markup("\n").join(escape(printable(line)) for line in text.splitlines())
