"""The model card: the README.md of a result folder, written for the stranger who finds it.

Holds no path of the machine that trained, and shows class names letter for letter, whatever they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from hf_finetune.report.card_mark import marked
from hf_finetune.report.fields import RunReport
from hf_finetune.report.fixed import fixed_for_card
from hf_finetune.report.front_matter import front_matter
from hf_finetune.report.references import (
    base_name,
    dataset_name,
    is_hub_model,
    method,
    shared_recipe,
    start_name,
    title,
    without_paths,
)
from hf_finetune.report.results import about_validation, result_table, run_headline
from hf_finetune.report.snippet import needed_packages, predict_snippet, stock_snippet
from hf_finetune.report.summary import memory_text, precision_text, show, time_text
from hf_finetune.report.tables import escape, escape_words, markdown_table
from hf_finetune.report.value_range import differs_from_stock, range_text, value_range_of
from hf_finetune.report.wording import words_of
from hf_finetune.types import Note
from hf_finetune.units import format_bytes

TYPICAL = "typical.safetensors"  # of a result that knows what its training images are like
PICTURE = "predicted.png"  # beside the card, where numbers are predicted


def model_card(report: RunReport, *, repo: str | None = None, merged: bool = False) -> str:
    """The whole card: YAML block and Markdown, and a last line by which a card that was edited later is known.

    `repo` is where it is published (None: nowhere yet); `merged`: the card of the whole model, merged.
    """
    parts = [
        f"---\n{front_matter(report, merged=merged)}\n---",
        _opening(report, merged),
        _usage(report, repo, merged),
        _results(report),
        words_of(report).names(),
        _training(report),
        _limits(report),
        _versions(report),
    ]
    return marked("\n\n".join(parts) + "\n")


def _opening(report: RunReport, merged: bool) -> str:
    words = words_of(report)
    lines = [
        f"# {escape(title(report))}",
        f"{method(report)}{', merged,' * merged} of {_base_link(report)} ({report.model['parameters']:,} parameters, "
        f"`{report.model['architecture']}`), made with hf_finetune {escape_words(words.purpose)}: "
        f"{escape(without_paths(dataset_name(report)))}.",
        f"**{run_headline(report)}**",
    ]
    return "\n\n".join(lines)


def _base_link(report: RunReport) -> str:
    name = base_name(report)
    return f"[{escape(name)}](https://huggingface.co/{name})" if is_hub_model(report) else escape(name)


def _usage(report: RunReport, repo: str | None, merged: bool) -> str:
    whole = merged or report.whole
    grey = value_range_of(report)
    answer = predict_snippet(words_of(report).answer_lines(), grey)
    lines = f"{stock_snippet(report, repo=repo, merged=merged)}\n{answer}"
    text = [f"## Use it\n\n```python\n{lines}```"]
    if grey is not None and differs_from_stock(grey):
        text.append(
            f"It was trained on 16-bit, 32-bit or float grey images, whose values {range_text(grey)} become black to "
            "white. Stock loading (`pipeline`, `convert` alone) takes 0 to 255 for that and answers otherwise: use "
            "the lines above, or images that were converted so. 8-bit images need nothing."
        )
    packages = " ".join(f'"{each}"' for each in needed_packages(report, merged=merged))
    text.append(
        f'These lines need transformers 5 (`backend="pil"`). Older versions than these were not tried:\n\n'
        f"```bash\npip install {packages}\n```"
    )
    if whole and repo and report.task["kind"] == "classification":  # of numbers it says the five largest, standardised
        of_8_bit = " (8-bit images)" if differs_from_stock(grey) else ""
        text.append(f'Or in one line{of_8_bit}: `pipeline("image-classification", model="{repo}")("photo.jpg")`.')
    if merged and report.recipe["quantization"]["kind"] != "none":
        text.append(
            "The adapter was trained and measured on a quantized base; this is its sum with the base in floating "
            "point, which was not measured and can differ a little."
        )
    if report.model["builtin"] and not whole:
        text.append("The base model is not on the Hub; it travels in `base/` in this folder.")
    elif not is_hub_model(report) and not whole:
        text.append(
            f"The base model {escape(base_name(report))} was a local folder. The adapter only fits those very weights: "
            f"sha256 `{report.model['fingerprint']}` over their tensors, as hf_finetune counts it."
        )
    place = f'"{repo}"' if repo else "path"
    checks = "" if whole else "; it checks the base's weights"
    text.append(f'With hf_finetune: `hf_finetune.load({place}).predict(["photo.jpg"])`{checks}.')
    return "\n\n".join(text)


def _results(report: RunReport) -> str:
    words, (columns, rows) = words_of(report), result_table(report)
    text = ["## Results", markdown_table(columns, [[escape(cell) for cell in row] for row in rows])]
    text.append(about_validation(report))
    if words.plotted():
        text.append(f"![Predicted against true numbers]({PICTURE})")
    if scored := precision_text(report):
        text.append(f"Scored in: {scored}.")
    return "\n\n".join([*text, *words.sections(report.test or report.validation)])


def _training(report: RunReport) -> str:
    data, machine = report.data, report.machine
    revision = f", commit `{data['commit']}`" if data["commit"] else ""
    licence = f", licence {escape(data['licence'])}" if data["licence"] else ""
    counts = ", ".join(f"{split} {count:,}" for split, count in data["counts"].items())
    facts = [f"- Data: {escape(dataset_name(report))}{revision}{licence}. Images: {counts}."]
    if data["cut"]:
        facts.append(f"- Cut from train by hf_finetune: {', '.join(data['cut'])} (stratified, the same every time).")
    if data["rejected"]:
        facts.append(f"- Left out because they could not be read: {len(data['rejected']):,}.")
    facts += [f"- {text}" for text in _notes(data["notes"])]
    if report.fix:
        facts.append(f"- {fixed_for_card(report.fix)}")
    if report.model["commit"]:
        facts.append(f"- Base model: commit `{report.model['commit']}`.")
    if start := report.model.get("start"):
        at = f" at commit `{start['commit']}`" if start["commit"] else ""
        name = escape(without_paths(start_name(report) or ""))
        facts.append(
            f"- Started from {name}{at}, whose files have the sha256 `{start['digest']}`; head {start['head']}."
        )
    elif (head := report.model.get("head")) and not head.startswith("fresh"):
        facts.append(f"- Head: the base model's own, {escape(head)}.")
    if brought := [kind for kind in ("loss", "callbacks", "transform") if kind in report.extensions]:
        facts.append(
            f"- The program that trained it brought its own {', '.join(brought)}; the recipe alone does not repeat it."
        )
    world = machine["world_size"]
    facts += [
        f"- Machine: {escape(machine['device_name'])} ({machine['device']}), {machine['cores']} cores, "
        f"{format_bytes(machine['ram_bytes'])} of free RAM, {world} process{'es' * (world > 1)}, "
        f"{escape(machine['system'])}.",
        f"- Time: {time_text(report)}.",
        f"- Peak memory: {memory_text(report)}.",
    ]
    settings = [[escape(name), escape(show(entry["value"]))] for name, entry in report.plan.items() if "value" in entry]
    recipe = yaml.safe_dump(shared_recipe(report), sort_keys=False, allow_unicode=True)
    return "\n\n".join(
        [
            "## Training",
            "\n".join(facts),
            markdown_table(["planned", "value"], settings, texts=2),
            f"<details><summary>The recipe, with every default</summary>\n\n```yaml\n{recipe}```\n\n</details>",
        ]
    )


def _notes(notes: Sequence[Note | str]) -> list[str]:
    """What everyone may read of the notes: without the names of files and folders, no markup, one line each.

    Until 2026-11-28 a note was one string, of which nobody can tell what it names: these are only counted.
    """
    texts = dict.fromkeys(note.text for note in notes if isinstance(note, Note))
    lines = [escape_words(text) for text in texts]
    old = sum(isinstance(note, str) for note in notes)
    return [*lines, f"Notes on the data that may name files and are kept in run.json: {old:,}."] if old else lines


def _limits(report: RunReport) -> str:
    words = words_of(report)
    told = " `hf-finetune predict` marks images that are unlike those of training." if TYPICAL in report.files else ""
    limits = [
        f"- {words.limit()}{told}",
        "- The figures above hold for images like those it was measured on; other cameras, places or times can give "
        "others. Measure it on your own images first.",
        "- It inherits the licence, the biases and the limits of its base model and of its data; it was not examined "
        "for decisions about people.",
    ]
    if coarse := words.coarse(report.test or report.validation):
        limits.append(f"- {coarse}")
    return "\n".join(["## Intended use and limits", "", *limits])


def _versions(report: RunReport) -> str:
    listed = (f"{escape(name)} {escape(version)}" for name, version in report.versions.items())
    return f"## Versions\n\n{', '.join(listed)}"
