"""What several processes measure: the slowest one's seconds count, on all of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hf_finetune.ladder.pacing import TimeLeft
from tests.cli.photos import write_photos
from tests.training.rows import save_tiny_vit

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[3]
SLOW_S = 0.3
# The second process waits for every batch of its rows, and says that an image takes it longer.
MEASURE = """
import json, sys, time
from pathlib import Path

import torch.distributed as dist

from hf_finetune.ladder.pacing import TimeLeft, TimeSharing
from hf_finetune.ladder.trained.patches import Patches
from hf_finetune.ladder.trained.full import Full
from hf_finetune.pipeline.model import build_model
from hf_finetune.pipeline.prepare import prepare_run
from hf_finetune.recipe.recipe import load_recipe
from tests.training.rows import MemoryRows

rank, slow_s, recipe, meeting = int(sys.argv[1]), float(sys.argv[2]), json.loads(sys.argv[3]), Path(sys.argv[4])


class Rows(MemoryRows):
    def gather(self, indices):
        time.sleep(slow_s * rank)
        return super().gather(indices)


context = prepare_run(load_recipe(recipe))
model = build_model(context)
dist.init_process_group("gloo", init_method=meeting.as_uri(), rank=rank, world_size=2)
rows = Rows(64, context.facts.preprocess.height)
whole = Full(model, context, {"train": rows, "validation": rows}, Patches(model.get_base_model(), context.facts))
sharing = TimeSharing(context.plan, context.recipe, 64, TimeLeft(60, lambda: 0, 0, end_rows=10))
sharing.note_pass([0.1, 0.5][rank])
print(json.dumps([whole.update_s(1.0), sharing.left_s()]))
"""


def test_the_slowest_processs_seconds_count(tmp_path: Path) -> None:
    recipe = {
        "model": {"name": str(save_tiny_vit(tmp_path / "tiny"))},
        "data": {"name": str(write_photos(tmp_path / "photos")), "validation_share": 0.2},
        "output": {"dir": str(tmp_path / "run")},
    }
    arguments = [str(SLOW_S), json.dumps(recipe), str(tmp_path / "meeting")]
    ranks = [
        subprocess.Popen([sys.executable, "-c", MEASURE, str(rank), *arguments], stdout=subprocess.PIPE, cwd=ROOT)
        for rank in range(2)
    ]
    said = [json.loads(rank.communicate()[0].splitlines()[-1]) for rank in ranks]
    assert said[0] == said[1]
    update_s, left_s = said[0]
    assert update_s >= SLOW_S
    assert left_s == TimeLeft(60, lambda: 0, 0, end_rows=10).left_s(0.5)
