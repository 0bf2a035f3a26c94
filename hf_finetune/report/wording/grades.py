"""Grades in an order, in words."""

from __future__ import annotations

from collections.abc import Mapping

from hf_finetune.report.tables import escape
from hf_finetune.report.wording.classes import COLUMNS
from hf_finetune.report.wording.words import Figure, Rows, Score, Words, f1_table, weakest_row


class GradeWords(Words):
    """Agreement by quadratic weights first."""

    figures = (
        Figure("kappa", "quadratic kappa"),
        Figure("grade_error", "mean grades off"),
        Figure("accuracy", "accuracy", ".1f", "%", "accuracy"),
        Figure("near", "at most one grade off", ".1f", "%"),
        Figure("loss", "loss a question"),
    )

    @property
    def grades(self) -> tuple[str, ...]:
        """From the lowest up."""
        return tuple(self.task["grades"])

    @property
    def size(self) -> str:
        return f"{len(self.grades):,} grades"

    @property
    def purpose(self) -> str:
        return f"to grade images in {len(self.grades):,} steps from {self.grades[0]} to {self.grades[-1]}"

    def answer_lines(self, task: str = "model.config.task", names: str = "model.config.id2label") -> str:
        del names  # of questions, not of grades
        return (
            f"grades = {task}['grades']\n"
            "above = logits.sigmoid()[0].cpu().cummin(-1).values  # P(above) each grade but the last\n"
            "grade = int((above > 0.5).sum())\n"
            "edges = torch.cat([torch.ones(1), above, torch.zeros(1)])\n"
            "print(grades[grade], float(edges[grade] - edges[grade + 1]))\n"
        )

    def limit(self) -> str:
        return (
            "It says the median of its distribution over the grades, for any image, also for one that none of them "
            "fits; its outputs are the probabilities of being above each grade but the last."
        )

    def further(self, score: Score, *, weakest_shown: int) -> Rows:
        return super().further(score, weakest_shown=0) + weakest_row(score.get("per_class", {}), weakest_shown)

    def sections(self, score: Score) -> list[str]:
        return f1_table(score["per_class"], ("grade", "grades"), COLUMNS) if "per_class" in score else []

    def names(self) -> str:
        return f"## Grades\n\nFrom the lowest up: {', '.join(map(escape, self.grades))}."

    def error(self, row: Mapping[str, str]) -> float:
        return float(abs(self.grades.index(row["predicted"]) - self.grades.index(row["label"])))

    @property
    def better(self) -> str:
        return "is nearer"
