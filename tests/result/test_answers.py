"""What a model answers to many rows is kept without their logits, and says the same."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import torch
from transformers import ViTConfig, ViTForImageClassification

from hf_finetune.labels import Answers, ClassAnswers, Labels
from hf_finetune.report.predictions import read_predictions, write_predictions
from hf_finetune.result.answers import logits_of, predict_answers
from hf_finetune.tasks.classification import ClassTarget
from hf_finetune.tasks.scoring import answers_of
from tests.training.rows import PREPROCESS, SIDE, MemoryRows


def vit(classes: int) -> ViTForImageClassification:
    torch.manual_seed(0)
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    return ViTForImageClassification(ViTConfig(image_size=SIDE, patch_size=8, num_labels=classes, **small))


def target(classes: int) -> ClassTarget:
    return ClassTarget(Labels(tuple(map(str, range(classes)))))


def assert_alike(found: Answers, wanted: ClassAnswers) -> None:
    assert isinstance(found, ClassAnswers)
    np.testing.assert_array_equal(found.top, wanted.top)
    # Computed in float64, in blocks of other sizes: the last rows of a block may take another form of exp.
    np.testing.assert_allclose(found.confidence, wanted.confidence, rtol=1e-12)
    np.testing.assert_allclose(found.loss, wanted.loss, rtol=1e-12)


def test_answers_are_those_of_the_logits() -> None:
    rows, model = MemoryRows(23, SIDE), vit(9)
    chosen = [4, 22, 0, 7, 9]
    for indices in (None, chosen):
        logits = logits_of(model, rows.gather(np.array(indices or range(23))), PREPROCESS)
        wanted = answers_of(logits, rows.labels[indices or slice(None)])
        assert_alike(predict_answers(model, rows, PREPROCESS, target(9), batch=4, indices=indices), wanted)


def test_rows_of_twenty_thousand_classes_are_answered_in_a_fraction_of_their_logits() -> None:
    rows, model = MemoryRows(400, SIDE), vit(20_000)
    predict_answers(model, rows, PREPROCESS, target(20_000), batch=8, indices=[0])
    tracemalloc.start()
    answers = predict_answers(model, rows, PREPROCESS, target(20_000), batch=8)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(answers) == 400
    assert peak < 400 * 20_000 * 4 / 4  # a quarter of the logits; numpy's arrays are traced, torch's are not


def test_predictions_are_the_softmax_of_the_logits(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    logits, labels = random.normal(0, 3, (30, 4)).astype(np.float32), random.integers(0, 4, 30)
    names = [f"{number}.jpg" for number in range(30)]
    path = tmp_path / "predictions.csv"
    columns, lines = ClassTarget(Labels(tuple("abcd"))).table(answers_of(logits, labels), labels)
    write_predictions(path, "test", names, columns, lines)
    shares = torch.from_numpy(logits).softmax(1).numpy()
    for number, line in enumerate(read_predictions(path)):
        assert line["row"] == names[number]
        assert (line["label"], line["predicted"]) == ("abcd"[labels[number]], "abcd"[shares[number].argmax()])
        assert abs(float(line["probability"]) - shares[number].max()) < 2e-6
