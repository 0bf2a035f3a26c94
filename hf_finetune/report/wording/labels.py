"""Any number of labels an image, in words."""

from __future__ import annotations

from collections.abc import Mapping

from hf_finetune.report.wording.words import Figure, Rows, Score, Words, f1_table, listed, weakest_row

COLUMNS = (
    ("average_precision", "average precision"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("f1", "F1"),
    ("threshold", "threshold"),
)


class LabelWords(Words):
    """Mean average precision first, since it needs no threshold."""

    figures = (
        Figure("map", "mean average precision"),
        Figure("macro_f1", "macro F1", hub="f1"),
        Figure("micro_f1", "micro F1", hub="f1"),
        Figure("subset_accuracy", "all labels right", ".1f", "%", "accuracy"),
        Figure("loss", "loss a label"),
    )

    @property
    def size(self) -> str:
        return f"{len(self.outputs):,} labels"

    @property
    def purpose(self) -> str:
        return f"to say which of {len(self.outputs):,} labels an image has ({listed(self.outputs)})"

    def answer_lines(self, task: str = "model.config.task", names: str = "model.config.id2label") -> str:
        thresholds = f"torch.tensor({task}['thresholds'])" if self.task.get("thresholds") else "0.5"
        return (
            "probabilities = logits.sigmoid()[0]\n"
            f"thresholds = {thresholds}\n"
            "given = (probabilities.cpu() >= thresholds).nonzero().flatten().tolist()\n"
            f"print([({names}[place], float(probabilities[place])) for place in given])\n"
        )

    def limit(self) -> str:
        return (
            f"It knows these {len(self.outputs):,} labels; each is told by itself, and an image may get none. Its "
            "thresholds were chosen for images like those of validation."
        )

    def further(self, score: Score, *, weakest_shown: int) -> Rows:
        return super().further(score, weakest_shown=0) + weakest_row(score["per_label"], weakest_shown)

    def sections(self, score: Score) -> list[str]:
        return [*f1_table(score.get("per_label", {}), ("label", "labels"), COLUMNS), self.thresholds()]

    def thresholds(self) -> str:
        """Where the probability from which each label is given comes from."""
        made = self.task.get("thresholds_from")
        return f"Thresholds: those with the largest F1 on {made}." if made else "Thresholds: .5, not chosen."

    def error(self, row: Mapping[str, str]) -> float:
        return float(row["predicted"] != row["labels"])
