"""One file of a streamed dataset after another, each read as `datasets` would read it as a part of the whole.

What `datasets` decides over all files (which column holds the labels, what its classes are called, of which type it is)
is taken from the features that it states of the dataset, and held against each file. What cannot be told of a file
alone is refused, and never decided otherwise than with all files at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

from hf_finetune.data.config import Data
from hf_finetune.data.sources import columns
from hf_finetune.data.sources.naming import is_shard
from hf_finetune.data.sources.parquet import read_parquet
from hf_finetune.data.sources.parquet import values_of as values_of_parquet
from hf_finetune.data.sources.readers import ParquetReader
from hf_finetune.data.sources.shards.shards import read_shards
from hf_finetune.data.sources.shards.shards import values_of as values_of_shard
from hf_finetune.data.sources.streamed.fetcher import RemoteFile
from hf_finetune.data.sources.streamed.listing import Listed
from hf_finetune.errors import DataError

MOST_VALUES = 100  # of a column: one of more says no splits
Form = Any  # a word, ["class", names] or ["list", form]; it goes through JSON
_KINDS: dict[str, columns.Kind] = {"image": "image", "text": "text", "int": "whole", "bool": "whole", "float": "number"}


@final
class Reads:
    """Reads a file of the dataset `config.name`. `fetch` puts the small files `beside` into `root` before the first.
    `forms`: of the dataset's columns, {} where nothing states them: the first file does then."""

    def __init__(
        self,
        config: Data,
        root: Path,
        fetch: Callable[[str], None],
        beside: Sequence[str],
        forms: Mapping[str, Form],
    ) -> None:
        # A file is one part of its split, whatever splits the recipe leaves out.
        self._config = config.model_copy(update={"ignore_splits": (), "revision": None})
        self._root, self._fetch, self._beside, self._forms = root, fetch, list(beside), forms

    def __call__(self, file: RemoteFile, path: Path, first: Listed | None) -> Listed:
        """Raises DataError."""
        while self._beside:
            self._fetch(self._beside.pop())
        try:
            return self._shard(file, path) if is_shard(file.name) else self._parquet(file, path, first)
        except DataError as error:
            # Where it lies for the moment says nothing to a person.
            message = error.message.replace(str(path), f"{file.name} of {self._config.name}")
            raise DataError(message, error.hint) from error

    def _shard(self, file: RemoteFile, path: Path) -> Listed:
        source = read_shards([path], self._root, self._config, name=file.name, has_splits=False, alone=True)
        kinds, values = values_of_shard(path, MOST_VALUES)
        return Listed(source, None, source.has_splits, kinds=kinds, values=values)

    def _parquet(self, file: RemoteFile, path: Path, first: Listed | None) -> Listed:
        kinds, values = values_of_parquet(path, MOST_VALUES)  # also finds a file that is no Parquet
        own = forms_of_file(path)
        forms = self._forms or (own if first is None else first.forms)
        config = _settled(self._config, forms)
        self._refuse_others(file, config, forms, own)
        source = read_parquet(
            {file.split: [path]},
            self._root,
            config,
            name=file.name,
            has_splits=False,
            class_lists={name: found for name, form in forms.items() if (found := class_names(form)) is not None},
            alone=True,
        )
        image = source.reader.column if isinstance(source.reader, ParquetReader) else None
        return Listed(source, image, source.has_splits, forms=own, kinds=kinds, values=values)

    def _refuse_others(
        self, file: RemoteFile, config: Data, forms: Mapping[str, Form], own: Mapping[str, Form]
    ) -> None:
        used = (*config.label_columns, config.image_column, config.group_column, config.split_column)
        for column in (name for name in used if name is not None):
            if column in forms and column in own and not _is_cast(forms[column], own[column]):
                raise DataError(
                    f"data.name: {_said(forms[column])} are expected in column {column!r} of {file.name} of "
                    f"{config.name}, as in the whole dataset, found {_said(own[column])}",
                    "`datasets` may put it right with all files at hand: raise data.download_limit",
                )


def forms_of(features: Any) -> dict[str, Form]:
    """Of `datasets.Features`."""
    return {name: _form(feature) for name, feature in features.items()}


def forms_of_file(path: Path) -> dict[str, Form]:
    """Of a Parquet file, as `datasets` would take it alone."""
    import datasets
    import pyarrow.parquet as pq

    return forms_of(datasets.Features.from_arrow_schema(pq.read_schema(path)))


def class_names(form: Form) -> tuple[str, ...] | None:
    """Of a column of classes, or of lists of them; None for another."""
    if isinstance(form, list):
        return tuple(form[1]) if form[0] == "class" else class_names(form[1])
    return None


def _form(feature: Any) -> Form:
    import datasets

    if isinstance(feature, datasets.ClassLabel):
        return ["class", list(feature.names)]
    if isinstance(feature, datasets.List | datasets.LargeList):
        return ["list", _form(feature.feature)]
    if isinstance(feature, datasets.Image) or (isinstance(feature, dict) and "bytes" in feature):
        return "image"
    if not isinstance(feature, datasets.Value):
        return "other"
    words = {"int": "int", "uint": "int", "string": "text", "large_string": "text", "float": "float", "bool": "bool"}
    return next((word for start, word in words.items() if feature.dtype.startswith(start)), _binary(feature.dtype))


def _binary(dtype: str) -> str:
    return "image" if "binary" in dtype else "other"


def _kind(form: Form) -> columns.Kind:
    if isinstance(form, list):
        return "class" if form[0] == "class" else "other" if _kind(form[1]) in ("image", "other") else "list"
    return _KINDS.get(form, "other")


def _settled(config: Data, forms: Mapping[str, Form]) -> Data:
    """With the columns named that the whole dataset's features choose."""
    kinds: dict[str, columns.Kind] = {name: _kind(form) for name, form in forms.items()}
    found = columns.find(kinds, config, config.name, lambda _: (), needs_label=False, guess_split=False)
    named = {"image_column": found.image, **({"label_column": found.labels} if found.labels else {})}
    return config.model_copy(update=named)


def _is_cast(wanted: Form, found: Form) -> bool:
    """Whether a file's column becomes the dataset's with its values as they are."""
    if wanted == found:
        return True
    if not isinstance(wanted, list):
        return False
    if wanted[0] == "class":
        return found == "int"
    return isinstance(found, list) and found[0] == "list" and _is_cast(wanted[1], found[1])


def _said(form: Form) -> str:
    words = {"int": "whole numbers", "text": "texts", "float": "numbers", "bool": "truth values", "image": "images"}
    if isinstance(form, list):
        return f"the classes {', '.join(form[1][:5])}" if form[0] == "class" else f"lists of {_said(form[1])}"
    return words.get(form, "values of another type")
