"""Several targets at once, in words: each as its own kind says it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from hf_finetune.report.tables import escape, markdown_table
from hf_finetune.report.wording.words import Figure, Plotted, Rows, Score, Words, listed

WordsFor = Callable[[Mapping[str, Any], tuple[str, ...]], Words]


class SeveralWords(Words):
    """The mean of the targets' first metrics first. `words_for` gives the words of one of them."""

    figures = (Figure("mean_score", "mean score"), Figure("loss", "loss of all"))

    def __init__(self, task: Mapping[str, Any], outputs: tuple[str, ...], words_for: WordsFor) -> None:
        super().__init__(task, outputs)
        self.targets = {each["name"]: words_for(each["task"], tuple(each["outputs"])) for each in task["targets"]}

    @property
    def size(self) -> str:
        return "; ".join(words.size if words.size == name else f"{name}: {words.size}"
                         for name, words in self.targets.items())  # fmt: skip

    @property
    def purpose(self) -> str:
        return f"to tell {len(self.targets)} things of an image: {self.size}"

    def answer_lines(self, task: str = "model.config.task", names: str = "model.config.id2label") -> str:
        del names  # each target has its own
        lines, start = f"outputs, targets = logits, {task}['targets']\n", 0
        for place, (name, words) in enumerate(self.targets.items()):
            stop = start + len(words.outputs)
            own = words.answer_lines(f"targets[{place}]['task']", f"dict(enumerate(targets[{place}]['outputs']))")
            lines += f"print({name!r}, end=': ')\nlogits = outputs[:, {start}:{stop}]\n{own}"
            start = stop
        return lines

    def limit(self) -> str:
        return " ".join(f"Of {name}: {words.limit()}" for name, words in self.targets.items())

    def further(self, score: Score, *, weakest_shown: int) -> Rows:
        rows = [("", f"the mean of {listed((f'{n}: {w.first.name}' for n, w in self.targets.items()), 9)}")]
        for name, its in score["per_target"].items():
            words = self.targets[name]
            rows.append((name, f"{words.first.name} {words.first.said(its)}"))
            more = words.further(its, weakest_shown=weakest_shown)
            rows += [("", text if key in ("", "also") else f"{key}: {text}") for key, text in more]
        return rows

    def sections(self, score: Score) -> list[str]:
        parts: list[str] = []
        for name, its in score.get("per_target", {}).items():
            words = self.targets[name]
            shown = [figure for figure in words.figures if figure.key in its]
            rows = [[escape(figure.name), figure.text(its[figure.key]), figure.interval(its)] for figure in shown]
            table = markdown_table(["", "", "95 % interval"], [["images", f"{its['rows']:,}", ""], *rows])
            parts += [f"### {escape(name)}", table]
            parts += [part.replace("### ", "#### ") for part in words.sections(its)]
        return parts

    def names(self) -> str:
        parts = [words.names().replace("## ", f"## {escape(name)}: ", 1) for name, words in self.targets.items()]
        return "\n\n".join(parts)

    def plotted(self) -> list[Plotted]:
        return [
            replace(each, true=f"{name} {each.true}", predicted=f"{name} {each.predicted}")
            for name, words in self.targets.items()
            for each in words.plotted()
        ]

    def error(self, row: Mapping[str, str]) -> float:
        """Of the first target."""
        name, words = next(iter(self.targets.items()))
        own = {key.removeprefix(f"{name} "): value for key, value in row.items() if key.startswith(f"{name} ")}
        return words.error(own)

    @property
    def better(self) -> str:
        name, words = next(iter(self.targets.items()))
        return f"{words.better} of {name}"
