"""A process that scans Hub datasets and decodes all of their images, and says what it found and what lay there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.hub_server.fixture import Hub

CODE = """
import hashlib, json, os, sys
from dataclasses import replace
from pathlib import Path
import numpy as np
from hf_finetune.data.config import Data
from hf_finetune.data.index.scan import scan
from hf_finetune.data.sources import hub_dataset
from hf_finetune.data.sources.streamed import from_hub
from hf_finetune.data.sources.streamed.fetcher import Fetcher
from hf_finetune.data.sources.streamed.reader import StreamedReader
from hf_finetune.data.store.store import open_store
from hf_finetune.data.value_range import settle_value_range
from hf_finetune.errors import FinetuneError
from hf_finetune.network.patience import Patience
from tests.data.store.samples import PREPROCESS as preprocess

hub_dataset.PATIENCE = from_hub.PATIENCE = Patience(tries=2, first_s=0.05)
places, most = [], [0, 0]
began = Fetcher._using
def counted(self, number):
    there = [path for path in self._folder.rglob("*") if path.suffix in (".tar", ".parquet")]
    most[:] = max(most[0], len(there)), max(most[1], sum(path.stat().st_size for path in there))
    places.append(self._files[number].name)
    if len(places) == int(os.environ.get("KILLED_AT", 0)):
        os.kill(os.getpid(), 9)
    return began(self, number)
Fetcher._using = counted

answers = []
for fields in json.loads(sys.argv[1]):
    side = fields.pop("side", None)
    try:
        config = Data(**fields)
        index = scan(config, seed=0)
        listed = len(places)
        scale, _ = settle_value_range(index, config, 1)
        looked = places[listed:]
        store = open_store(index, replace(preprocess, value_range=scale), train_side=side, workers=1,
            cache_dir=Path(config.cache_dir), limit_bytes=config.store_limit, max_bad_share=config.max_bad_share,
            max_pixels=config.max_pixels, train_as_seen=True)
    except FinetuneError as error:
        answers.append(str(error))
        continue
    pixels = {split: hashlib.sha256(rows.gather(np.arange(len(rows))).tobytes()).hexdigest()
              for split, rows in store.rows.items()}
    answers.append({"streamed": isinstance(index.reader, StreamedReader), "index": {
        "source": index.source, "revision": index.revision, "commit": index.commit, "licence": index.licence,
        "labels": index.labels.names, "cut": index.cut, "own_names": index.own_names,
        "rows": {split: [[row.name, row.label] for row in rows] for split, rows in index.splits.items()},
        "rejected": [[row.name, row.split, row.reason] for row in (*index.rejected, *store.rejected)]},
        "pixels": pixels, "notes": [note.text for note in index.notes], "files": places.copy(), "most": most.copy(),
        "built": store.built, "value_range": scale, "looked": looked,
        "left": sorted(path.name for path in Path(config.cache_dir).rglob("*") if path.suffix in (".tar", ".parquet"))})
    places.clear()
    most[:] = 0, 0
print(json.dumps(answers))
"""


def ask(
    hub: Hub, *fields: dict[str, Any], offline: bool = False, home: Path | None = None, killed_at: int = 0
) -> list[Any]:
    """An answer for each recipe's `data`: a dict, or the text of an error. `side`: also squashed training rows.

    `killed_at`: the process kills itself as it takes up its so-manieth file; there is no answer then.
    """
    process = started(hub, *fields, offline=offline, home=home, killed_at=killed_at)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == (-9 if killed_at else 0), errors
    return [] if killed_at else json.loads(output.splitlines()[-1])


def started(
    hub: Hub, *fields: dict[str, Any], offline: bool = False, home: Path | None = None, killed_at: int = 0
) -> subprocess.Popen[str]:
    """The process of `ask`, at work."""
    environment = hub.env(offline=offline) | ({} if home is None else {"HF_HOME": str(home)})
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", CODE, json.dumps(fields)],
        env=environment | {"KILLED_AT": str(killed_at)},
        cwd=Path(__file__).parents[4],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
