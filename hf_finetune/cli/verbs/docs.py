"""Print the cookbook, every key of a recipe, or the Python interface: a page, or what it says of a topic."""

from __future__ import annotations

import argparse
import sys

from hf_finetune.cli.plain import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """[TOPIC …]"""
    parser.add_argument(
        "topic",
        nargs="*",
        help="a page, or words of a section's heading, such as `csv` or `8 gb`; default: all topics by name",
    )


def run(options: argparse.Namespace) -> int:
    """Print the page or the sections, paged on a terminal; without a topic list them."""
    from hf_finetune.cli.document import print_document
    from hf_finetune.cli.shipped.pages import find, pages, render_topics

    if not options.topic:
        if options.json:
            listed = [{"topic": page.name, "title": page.title, "sections": page.headings} for page in pages()]
            print_document(listed)
        else:
            _print(render_topics())
        return 0
    topic = " ".join(options.topic)
    found = find(topic)
    if options.json:
        said = [{"page": each.page, "heading": each.heading, "markdown": each.text} for each in found]
        print_document({"topic": topic, "sections": said})
    else:
        _print("\n".join(each.text for each in found))
    return 0


def _print(text: str) -> None:
    """A screen at a time, where a person sees it."""
    if sys.stdout.isatty() and sys.stdin is not None and sys.stdin.isatty():
        import shutil

        if text.count("\n") >= shutil.get_terminal_size().lines:
            import pydoc

            pydoc.pager(text)
            return
    say(text, end="" if text.endswith("\n") else "\n")
