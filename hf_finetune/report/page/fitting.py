"""Keeps a page small enough to send: thumbnails go first, facts never."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from hf_finetune.report.page.render import render
from hf_finetune.report.page.structure import Gallery, Page, Part, Section

MOST_BYTES = 3_000_000


def fitted(page: Page, most: int = MOST_BYTES) -> str:
    """The page as HTML below `most` bytes of UTF-8, with fewer thumbnails where it would be larger, and saying so."""
    share = 1.0
    while True:
        chosen = page if share >= 1 else replace(page, sections=tuple(_thinned(each, share) for each in page.sections))
        text = render(chosen)
        size, images = len(text.encode("utf-8")), sum(len(uri) for uri in _uris(chosen.sections))
        if size < most or images == 0:
            return text
        # The rest of the page stays as it is; a little less than what is left of it for the images.
        share = 0.0 if share < 0.01 else share * min(0.9, 0.98 * max(0, most - (size - images)) / images)


def _uris(sections: tuple[Section, ...]) -> Iterator[str]:
    for section in sections:
        for part in section.parts:
            if isinstance(part, Gallery):
                yield from (thumb.uri for thumb in part.thumbs)
        yield from _uris(section.sections)


def _thinned(section: Section, share: float) -> Section:
    parts = tuple(_fewer(part, share) for part in section.parts)
    return replace(section, parts=parts, sections=tuple(_thinned(each, share) for each in section.sections))


def _fewer(part: Part, share: float) -> Part:
    if not isinstance(part, Gallery):
        return part
    kept = part.thumbs[: int(share * len(part.thumbs))]
    note = f"{len(kept)} of {len(part.thumbs)} images are shown, so that the page stays small enough to send."
    return replace(part, thumbs=kept, note=f"{part.note} {note}".strip()) if len(kept) < len(part.thumbs) else part
