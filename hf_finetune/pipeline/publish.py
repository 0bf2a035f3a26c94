"""The very end of a run: card, metrics and picture into the result, the result into place, and run.json last."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hf_finetune.pipeline.finish import Scored
from hf_finetune.pipeline.saving import Saved
from hf_finetune.report.fields import RunReport
from hf_finetune.run.folder import RunFolder
from hf_finetune.run.replaced import forget_replaced
from hf_finetune.types import PixelRows, Split

if TYPE_CHECKING:
    from hf_finetune.tasks import Target


@dataclass(frozen=True)
class Ended:
    """What a run ends with: its report, what its result says of `rows` by split, and the `target` as calibrated."""

    report: RunReport
    results: Mapping[Split, Scored]
    rows: Mapping[Split, PixelRows]
    target: Target

    @property
    def shown(self) -> Split:
        """The split that is told of row by row: the test, where there is one."""
        return "test" if "test" in self.results else "validation"


def publish(saved: Saved, ended: Ended, folder: RunFolder) -> None:
    """Card and metrics into the result, the result into place, predictions, and run.json last: it marks the end."""
    from hf_finetune.report.card import PICTURE, model_card
    from hf_finetune.report.predictions import scatter_of, write_predictions
    from hf_finetune.report.run_json import write_report
    from hf_finetune.report.wording import words_of
    from hf_finetune.result.files import CARD, hashes, sha256_of
    from hf_finetune.result.save import publish_locally

    split, report = ended.shown, ended.report
    rows = ended.rows[split]
    columns, found = ended.target.table(ended.results[split].answers, np.asarray(rows.labels))
    lines = list(found)
    if (picture := scatter_of(words_of(report).plotted(), columns, lines)) is not None:
        (saved.staged / PICTURE).write_bytes(picture)
    metrics = {"validation": dict(report.validation), "test": dict(report.test)}
    (saved.staged / "metrics.json").write_text(json.dumps(metrics, indent=1, ensure_ascii=False), encoding="utf-8")
    report = replace(report, files=hashes(saved.staged))
    (saved.staged / CARD).write_text(model_card(report), encoding="utf-8")
    publish_locally(saved.staged, saved.target)
    write_predictions(folder.predictions, split, rows.names, columns, lines)
    report = replace(report, tables={folder.predictions.name: sha256_of(folder.predictions)})
    write_report(report, folder.path)
    forget_replaced(folder)
