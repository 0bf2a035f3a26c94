"""What lies in a run's stores, read by the trackers' own readers: for each name its (step, value), in their order."""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Points = dict[str, list[tuple[int, float]]]


def of_tensorboard(folder: Path) -> tuple[list[str], Points, str]:
    """The runs' names, their points, and what is kept of recipe and plan."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

    found = EventMultiplexer(size_guidance={"scalars": 0, "tensors": 0})
    found.AddRunsFromDirectory(str(folder / "tensorboard"))
    found.Reload()
    runs = {name: found.GetAccumulator(name) for name in found.Runs()}
    points: Points = {}
    settings = ""
    for run in runs.values():
        points |= {tag: [(each.step, each.value) for each in run.Scalars(tag)] for tag in run.Tags()["scalars"]}
        for tag in run.Tags()["tensors"]:
            settings += b"".join(run.Tensors(tag)[-1].tensor_proto.string_val).decode()
    return list(runs), points, settings


def of_trackio(folder: Path) -> tuple[list[str], Points, str]:
    """The same of Trackio's SQLite file."""
    pytest.importorskip("trackio")
    (file,) = (folder / "trackio").glob("*.db")
    with sqlite3.connect(file) as store:
        rows = store.execute("SELECT run_id, run_name, step, metrics FROM metrics ORDER BY id").fetchall()
        (config,) = store.execute("SELECT config FROM configs").fetchall()
    store.close()
    points: Points = {}
    for _, _, step, metrics in rows:
        for name, value in json.loads(metrics).items():
            points.setdefault(name, []).append((step, value))
    return list(dict.fromkeys(name for _, name in {(each[0], each[1]) for each in rows})), points, str(config[0])


def of_mlflow(folder: Path) -> tuple[list[str], Points, str]:
    """The same by MLflow's client."""
    pytest.importorskip("mlflow")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow.tracking import MlflowClient

        client = MlflowClient((folder / "mlflow").absolute().as_uri())
        experiments = [each.experiment_id for each in client.search_experiments()]
        runs = client.search_runs(experiments)
        points: Points = {}
        for run in runs:
            assert run.info.status == "FINISHED"
            for name in run.data.metrics:
                points[name] = [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, name)]
        settings = "\n".join(f"{key}: {value}" for run in runs for key, value in run.data.params.items())
    return [run.info.run_name for run in runs], points, settings


def of_wandb(folder: Path) -> tuple[list[str], Points, str]:
    """The same of the file that `wandb sync` sends: wandb's own messages, in blocks of a log of leveldb's."""
    pytest.importorskip("wandb")
    names: dict[str, str] = {}
    points: Points = {}
    settings = ""
    for file in sorted((folder / "wandb").glob("*run-*/*.wandb")):
        for record in _records(file):
            if record.WhichOneof("record_type") == "run":
                names[record.run.run_id] = record.run.display_name
            for each in record.config.update:
                settings += f"{each.key or '.'.join(each.nested_key)}: {each.value_json}\n"
            for item in record.history.item:
                name = item.key or "/".join(item.nested_key)
                points.setdefault(name, []).append((record.history.step.num, json.loads(item.value_json)))
    return list(names.values()), points, settings


READERS: dict[str, Callable[[Path], tuple[list[str], Points, str]]] = {
    "tensorboard": of_tensorboard,
    "trackio": of_trackio,
    "wandb": of_wandb,
    "mlflow": of_mlflow,
}


def _records(file: Path) -> Iterator[Any]:
    """Every message. wandb 0.31 has its reader in a program of its own; the form is leveldb's: blocks of 32 KiB, in
    them pieces with checksum, length and place (whole, first, middle, last), after a header of seven bytes."""
    from wandb.proto import wandb_internal_pb2

    content, at, message = file.read_bytes(), 7, b""
    while at + 7 <= len(content):
        if (left := 32_768 - at % 32_768) < 7:
            at += left
            continue
        _, length, place = struct.unpack("<IHB", content[at : at + 7])
        message += content[at + 7 : at + 7 + length]
        at += 7 + length
        if place in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(message)
            yield record
            message = b""
