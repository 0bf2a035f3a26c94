"""One class an image, in words."""

from __future__ import annotations

from hf_finetune.report.tables import escape, markdown_table
from hf_finetune.report.wording.words import Figure, Rows, Score, Words, f1_table, weakest_row

_MOST_LABELS = 50
_MOST_PAIRS = 10
_FEW_IMAGES = 20  # below it one image moves a class's recall by 5 points or more
COLUMNS = (("precision", "precision"), ("recall", "recall"), ("f1", "F1"))


class ClassWords(Words):
    """Accuracy first."""

    figures = (
        Figure("accuracy", "accuracy", ".1f", "%", "accuracy"),
        Figure("top5", "top-5 accuracy", ".1f", "%", "accuracy"),
        Figure("balanced_accuracy", "balanced accuracy (mean recall)", ".1f", "%"),
        Figure("macro_f1", "macro F1", hub="f1"),
        Figure("loss", "cross-entropy (nats)"),
        Figure("ece", "calibration error (15 bins)"),
        Figure("covered", "class within the 90 % set", ".1f", "%"),
    )

    @property
    def size(self) -> str:
        return f"{len(self.outputs):,} classes"

    @property
    def purpose(self) -> str:
        return f"to tell {len(self.outputs):,} classes of images apart"

    def answer_lines(self, task: str = "model.config.task", names: str = "model.config.id2label") -> str:
        scaled = f"(logits / {task}['temperature'])" if self.task.get("temperature", 1) != 1 else "logits"
        return (
            f"probabilities = {scaled}.softmax(-1)[0]\n"
            f"print({names}[int(probabilities.argmax())], float(probabilities.max()))\n"
        )

    def limit(self) -> str:
        return (
            f"It tells these {len(self.outputs):,} classes apart and answers with one of them for any image, also for "
            "one that shows none of them; a low probability is a hint, not a test."
        )

    def further(self, score: Score, *, weakest_shown: int) -> Rows:
        more = [f"macro F1 {score['macro_f1']:.3f}", f"loss {score['loss']:.3f}"]
        if "balanced_accuracy" in score:
            more.insert(0, f"balanced accuracy {100 * score['balanced_accuracy']:.1f} %")
        top5 = [f"top-5 {100 * score['top5']:.1f} %"] if "top5" in score else []  # only above 5 classes
        rows = [("also", ", ".join([*top5, *more, f"calibration error {score['ece']:.3f}"]))]
        if "covered" in score:
            rows.append(("90 % sets", f"hold the class of {100 * score['covered']:.1f} % of these images"))
        return rows + weakest_row(score["per_class"], weakest_shown)

    def sections(self, score: Score) -> list[str]:
        parts = f1_table(score["per_class"], ("class", "classes"), COLUMNS) + confused(score)
        if made := self.task.get("calibrated_from"):
            threshold = self.task["set_threshold"]
            sets = "" if threshold is None else f"; the 90 % set has the classes of at least {threshold:.3g}"
            parts.append(f"Temperature {self.task['temperature']:.3g}, chosen on {made}{sets}.")
        return parts

    def coarse(self, score: Score) -> str:
        few = sum(row["support"] < _FEW_IMAGES for row in score.get("per_class", {}).values())
        if not few:
            return ""
        return (
            f"{few:,} of {len(self.outputs):,} classes were measured on fewer than {_FEW_IMAGES} images, so their "
            "rows above are coarse."
        )

    def names(self) -> str:
        if len(self.outputs) <= _MOST_LABELS:
            return super().names()
        return f"## Labels\n\n{len(self.outputs):,} classes; their names are in `config.json` (`id2label`)."


def confused(score: Score) -> list[str]:
    """For a card: what was taken for what."""
    pairs = score.get("confused_pairs", [])[:_MOST_PAIRS]
    if not pairs:
        return []
    cells = [[escape(pair["label"]), escape(pair["predicted"]), f"{pair['count']:,}"] for pair in pairs]
    return ["### Most often confused", markdown_table(["is", "was taken for", "images"], cells, texts=2)]
