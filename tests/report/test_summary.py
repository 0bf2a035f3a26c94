"""The plan table and the summary as a terminal shows them."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hf_finetune.report.run_json import read_report, write_report
from hf_finetune.report.summary import precision_text, render_plan, render_summary, rung_text, show
from hf_finetune.report.tables import columns_of, plain_table, terminal_width
from hf_finetune.report.wording import words_for
from hf_finetune.types import Decision
from tests.report.example import example, plan

RUN = Path("runs/trashnet")
OTHERWISE = "layers, which `hf-finetune evaluate` and stock code round a little otherwise"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_plan_names_every_decision_with_value_and_reason_within_the_width(width: int) -> None:
    text = render_plan(plan(), width=width)
    words = " ".join(text.split())
    for name, decision in vars(plan()).items():
        if isinstance(decision, Decision):
            assert re.search(rf"^{name} +{re.escape(show(decision.value))} ", text, re.MULTILINE), name
    assert "\nmemory " in text
    assert "activations 610 MB" in words
    assert words.startswith("setting value why device cpu ")
    longest = max(len(line) for line in text.splitlines())
    # Only a word that no line could hold may stand out: recipe keys are never broken.
    assert longest <= max(width, 36 + len("train.effective_batch_size,"))


def test_neither_text_holds_control_or_colour_codes() -> None:
    text = render_plan(plan()) + render_summary(example(), RUN)
    assert "\x1b" not in text
    assert re.search(r"[^\n -~]", re.sub(r"[×√–]", "", text)) is None


@pytest.mark.parametrize(("columns", "expected"), [("20", 40), ("80", 80), ("400", 120)])
def test_the_terminals_width_is_kept_between_40_and_120(
    monkeypatch: pytest.MonkeyPatch, columns: str, expected: int
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert terminal_width() == expected


@pytest.mark.parametrize(("leaked", "said"), [(1, "1 row that has"), (1_200, "1,200 rows that have")])
def test_the_test_is_scored_again_without_rows_that_have_a_copy(leaked: int, said: str) -> None:
    report = example()
    report = replace(report, findings={"without_leaks": {**report.test, "leaked": leaked}})
    text = " ".join(render_summary(report, RUN, width=100).split())
    assert f"without the {said} a copy in another split" in text


def test_the_summary_says_how_good_how_long_how_large_and_how_to_predict() -> None:
    report = example()
    report = replace(report, seconds={"engine": 1e-4, **report.seconds})  # of which nothing is said
    text = render_summary(report, RUN, width=100)
    assert text.splitlines()[0] == "LoRA (rank 8): vit_tiny_timm on trashnet, 6 classes"
    assert f"test accuracy  {words_for(report.task, report.data['labels']).first.said(report.test)}\n" in text
    assert "it chose the result" in text
    assert "left out       1 unreadable row, named in run.json\n" in text
    assert "2 min 47 s (scan and imports 9.8 s, images 6.2 s, model 1.9 s, training 2 min 21 s" in text
    assert "memory         forecast 1.7 GB, measured 1.48 GB of RAM (2.02 GB with shared pages)\n" in text
    assert f"adapter        {RUN / 'adapter'}\n" in text
    assert text.endswith(f"Predict with it:\n  hf-finetune predict {RUN} photo.jpg\n")


def test_a_report_read_back_from_run_json_gives_the_same_summary(tmp_path: Path) -> None:
    report = example()
    content = read_report(write_report(report, tmp_path))
    assert render_summary(content, RUN, width=100) == render_summary(report, RUN, width=100)


def test_the_line_to_copy_is_never_wrapped_and_quotes_a_path_with_spaces() -> None:
    path = Path("my runs") / ("x" * 90)
    assert f'\n  hf-finetune predict "{path}" photo.jpg\n' in render_summary(example(), path, width=60)


def test_without_a_test_split_the_validation_figures_stand_alone() -> None:
    text = render_summary(example(test=False), RUN, width=100)
    assert "test accuracy" not in text
    assert "macro F1" in text


@pytest.mark.parametrize(
    ("kept", "by_chance", "said"),
    [
        (True, False, "probe 0.900 in 2.0 s"),
        (True, True, "probe 0.900 in 2.0 s (less lost)"),
        (False, False, "probe 0.900 in 2.0 s (not better)"),
        (False, True, "probe 0.900 in 2.0 s (not clearly better)"),
    ],
)
def test_a_rung_that_was_kept_or_dropped_against_its_accuracy_is_told(kept: bool, by_chance: bool, said: str) -> None:
    first = replace(example().rungs[0], rung="probe", validation={"accuracy": 0.9}, seconds=2.0)
    rung = replace(first, kept=kept, by_chance=by_chance)
    assert rung_text(rung, "accuracy") == said


def test_replays_after_out_of_memory_are_told() -> None:
    report = example()
    used = replace(report, plan={**report.plan, "used": {"micro_batch": 16, "replays": 2}})
    assert "out of memory 2 times: micro-batch 16 at the end" in render_summary(used, RUN, width=100)


def test_memory_of_an_accelerator_is_told_beside_ram() -> None:
    report = example()
    cuda = replace(
        report, machine={**report.machine, "device": "cuda"}, peak_bytes={**report.peak_bytes, "device": 3_000_000_000}
    )
    assert "3 GB on the device, 1.48 GB of RAM" in render_summary(cuda, RUN, width=100)


def test_full_fine_tuning_is_called_so_and_its_folder_a_model() -> None:
    text = render_summary(example(overrides=("adapter.kind=full",)), Path("runs/x"), width=100)
    assert text.startswith("Full fine-tuning: ")
    assert re.search(r"^model +runs/x/model$", text.replace("\\", "/"), re.MULTILINE)


@pytest.mark.parametrize(
    ("share", "rows", "expected"),
    [
        (1.0, 30, "100.0 % (30 images, so at least 90.0 % by the rule of three)"),
        (1.0, 2, "100.0 % (2 images, so at least 0.0 % by the rule of three)"),
        (0.0, 600, "0.0 % (600 images, so at most 0.5 % by the rule of three)"),
        (0.0, 9_000, "0.0 % (9,000 images, so at most 0.033 % by the rule of three)"),
        (1.0, 9_000, "100.0 % (9,000 images, so at least 99.967 % by the rule of three)"),
        (0.5, 1_000, "50.0 % (95 % interval 46.9 to 53.1 %, 1,000 images)"),
    ],
)
def test_an_accuracy_comes_with_its_uncertainty_also_where_resampling_shows_none(
    share: float, rows: int, expected: str
) -> None:
    score = {"accuracy": share, "accuracy_low": 0.469, "accuracy_high": 0.531, "rows": rows}
    assert words_for({"kind": "classification"}, "ab").first.said(score) == expected


def test_wide_characters_keep_the_columns_aligned() -> None:
    lines = plain_table([("漢字", "x"), ("abc", "y")], 60).splitlines()
    assert [columns_of(line[: line.index(end)]) for line, end in zip(lines, "xy", strict=True)] == [6, 6]


@pytest.mark.e2e
def test_rendering_imports_nothing_heavy() -> None:
    code = (
        "import sys, hf_finetune.report.summary, hf_finetune.report.run_json, hf_finetune.report.card; "
        "print({'torch', 'transformers', 'datasets', 'evaluate', 'huggingface_hub'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"


def test_before_a_run_five_rows_are_shown_and_how_to_see_the_others() -> None:
    timed = replace(plan(), seconds={"probe": 4.2, "rest": 15.0})
    text = render_plan(timed, width=80, brief=True)
    names = [line.split()[0] for line in text.splitlines() if line and not line.startswith(" ")]
    assert names[0] == "setting"
    assert len(names[1:-1]) == 5 and {"device", "rungs", "memory"} < set(names)
    assert "more settings: `hf-finetune plan`, or plan.json in the run folder.\n" in text
    assert int(names[-1]) + 3 == sum(isinstance(each, Decision) for each in vars(plan()).values())


@pytest.mark.parametrize("brief", [True, False])
def test_on_forty_columns_reasons_stand_below_their_settings(brief: bool) -> None:
    text = render_plan(plan(), width=40, brief=brief)
    assert max(columns_of(line) for line in text.splitlines()) <= 40
    assert "\nmemory  " in text and "\nrungs  " in text


@pytest.mark.parametrize(
    ("precision", "overrides", "said"),
    [
        ("fp32", (), ""),
        ("bf16", (), "validation in bf16, in which it trained; test in fp32, as `hf-finetune evaluate` does"),
        ("bf16", ("budget.time=2m",), "bf16, in which it trained; `hf-finetune evaluate` does in fp32, so that its "
         "figures differ a little"),
        ("fp32", ("quantization.kind=int8",), f"fp32 beside int8 {OTHERWISE}"),
        ("bf16", ("quantization.kind=nf4",), f"validation in bf16, in which it trained; test in fp32 beside nf4 "
         f"{OTHERWISE}"),
        ("bf16", ("quantization.kind=int8", "budget.time=2m"), f"bf16 beside int8 {OTHERWISE}"),
    ],
)  # fmt: skip
def test_what_was_scored_in_which_precision_is_said(precision: str, overrides: tuple[str, ...], said: str) -> None:
    report = example(overrides=overrides)
    report = replace(report, plan={**report.plan, "precision": {"value": precision, "reason": "test"}})
    assert precision_text(report) == said
