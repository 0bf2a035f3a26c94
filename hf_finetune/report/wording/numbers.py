"""Numbers, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_finetune.report.tables import escape, markdown_table
from hf_finetune.report.wording.words import QUANTITY, Figure, Plotted, Rows, Score, Words, listed


class NumberWords(Words):
    """The share of the variance that is explained first."""

    def __init__(self, task: Mapping[str, Any], outputs: tuple[str, ...]) -> None:
        super().__init__(task, outputs)
        unit = task.get("unit") or ""
        self.figures = (
            Figure("r2", "R² of the logarithms" if task.get("log") else "R²", hub="r_squared"),
            Figure("mae", "mean absolute error", QUANTITY, unit, "mae"),
            Figure("rmse", "root mean squared error", QUANTITY, unit, "rmse"),
            Figure("spearman", "Spearman's rank correlation", hub="spearmanr"),
            Figure("covered", "within their 90 % interval", ".1f", "%"),
            Figure("loss", "loss (standardised)"),
        )

    @property
    def size(self) -> str:
        unit = f" in {self.task['unit']}" if self.task.get("unit") else ""
        return f"{listed(self.outputs)}{unit}"

    @property
    def purpose(self) -> str:
        return f"to estimate {self.size} from an image"

    def answer_lines(self, task: str = "model.config.task", names: str = "model.config.id2label") -> str:
        found = "logits[0].cpu() * torch.tensor(task['std']) + torch.tensor(task['mean'])"
        exp = ".exp()" * bool(self.task.get("log"))
        lines = f"task = {task}\nstandard = {found}\nnumbers = standard{exp}\n"
        if not self.task.get("half_widths"):
            return f"{lines}print(dict(zip({names}.values(), numbers.tolist())))\n"
        return (
            f"{lines}"
            "reach = torch.tensor(task['half_widths']) * torch.tensor(task['std'])  # 90 % lie so near\n"
            f"low, high = (standard - reach){exp}, (standard + reach){exp}\n"
            f"print(*zip({names}.values(), numbers.tolist(), low.tolist(), high.tolist()))\n"
        )

    def limit(self) -> str:
        return f"It says a number for any image, also for one unlike all that it was trained on. {self._intervals()}"

    def _intervals(self) -> str:
        if made := self.task.get("interval_from"):
            return f"Its 90 % intervals are made from its errors on {made}, and equally wide for every image."
        return "It gives no intervals: too few images were held out."

    def further(self, score: Score, *, weakest_shown: int) -> Rows:
        rows = super().further(score, weakest_shown=weakest_shown)
        return rows + [
            (name, ", ".join(f"{each.name} {each.text(its[each.key])}" for each in self.figures if each.key in its))
            for name, its in score.get("per_target", {}).items()
        ]

    def sections(self, score: Score) -> list[str]:
        if "per_target" not in score:
            return []
        shown = [each for each in self.figures if any(each.key in its for its in score["per_target"].values())]
        rows = [
            [escape(name), *(each.text(its[each.key]) if each.key in its else "" for each in shown)]
            for name, its in score["per_target"].items()
        ]
        return ["### By number", markdown_table(["number", *(each.name for each in shown)], rows)]

    def plotted(self) -> list[Plotted]:
        unit = f" ({self.task['unit']})" if self.task.get("unit") else ""
        several, log = len(self.outputs) > 1, bool(self.task.get("log"))
        columns = [
            (f"{name} label", f"{name} predicted") if several else ("label", "predicted") for name in self.outputs
        ]
        return [Plotted(f"{name}{unit}", *pair, log) for name, pair in zip(self.outputs, columns, strict=True)]

    def error(self, row: Mapping[str, str]) -> float:
        pairs = [(row[key], row[f"{key[: -len('label')]}predicted"]) for key in row if key.endswith("label")]
        return sum(abs(float(true) - float(said)) for true, said in pairs if true)

    @property
    def better(self) -> str:
        return "is nearer"
