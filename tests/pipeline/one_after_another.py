"""Trains several recipes in one program, which has to import the libraries only once.

`python -m tests.pipeline.one_after_another JSON`, alone or under a launcher; JSON: [[recipe, [override, …]], …].
"""

from __future__ import annotations

import json
import sys

import hf_finetune
from hf_finetune.recipe.recipe import load_recipe


def main(lines: list[tuple[str, list[str]]]) -> None:
    for path, overrides in lines:
        hf_finetune.train(load_recipe(path, overrides))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
