"""accelerate's trackers, each made for one run: where it writes, as what, and how it goes on with one.

A tracker's own environment variables win. Where they name no place, it writes below the run folder's `tracking/`.
Imported in process.py alone, which the trackers have for themselves: some of them are set up by the environment only.
"""

from __future__ import annotations

import os
import re
import shlex
import textwrap
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

PROJECT = "hf_finetune"
REACH_S = 10  # for a server to answer; wandb would wait 90 s, mlflow for minutes
_NO_METRIC_NAME = re.compile(r"[^\w.\- :/]")  # of mlflow's


@dataclass(frozen=True)
class Wanted:
    """A run in a tracker. `id` is that of the one to go on with, which has everything up to `step` (−1: nothing);
    `new_id` of one that begins. `local`: nothing is to be sent. `process` is the one that trains."""

    project: str | None
    name: str
    folder: Path
    id: str | None
    new_id: str
    step: int
    local: bool
    process: int


@dataclass(frozen=True)
class Opened:
    """A tracker that has begun: the run's id there, where it writes, and what shows that; `remedy`: what sends what
    was not sent."""

    tracker: GeneralTracker
    id: str
    where: str
    look: str
    remedy: str = ""

    def settings(self, values: Mapping[str, Any], texts: Mapping[str, str]) -> None:
        """Keep recipe and plan: `values` by name, or as `texts`."""
        del texts
        self.tracker.store_init_configuration(dict(values))

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Write the values at a step."""
        self.tracker.log(dict(values), step=step)

    def finish(self, end: str) -> None:
        """Write what is left. `end`: FINISHED, KILLED or FAILED, for those that keep it."""
        del end
        self.tracker.finish()


class _TensorBoard(Opened):
    def settings(self, values: Mapping[str, Any], texts: Mapping[str, str]) -> None:
        """As texts: its hyperparameters would be a run of their own, in a folder below this one's."""
        del values
        self.tracker.log({name: textwrap.indent(text, "    ") for name, text in texts.items()}, step=0)  # Markdown


class _Wandb(Opened):
    def finish(self, end: str) -> None:
        import wandb

        wandb.finish(exit_code=0 if end == "FINISHED" else 1)


class _Mlflow(Opened):
    def log(self, values: Mapping[str, float], step: int) -> None:
        super().log({_NO_METRIC_NAME.sub("_", name): value for name, value in values.items()}, step)

    def finish(self, end: str) -> None:
        import mlflow

        mlflow.end_run(end)


def is_remote(tracker: str) -> bool:
    """Whether it sends what it is told to somewhere, so that a local store may stand in for it."""
    if tracker == "mlflow":
        return os.environ.get("MLFLOW_TRACKING_URI", "").startswith(("http://", "https://", "databricks"))
    return tracker == "wandb" and os.environ.get("WANDB_MODE", "online") not in ("offline", "disabled", "dryrun")


def _tensorboard(wanted: Wanted) -> Opened:
    from accelerate.tracking import TensorBoardTracker

    place = os.environ.get("TENSORBOARD_LOGGING_DIR")
    folder = Path(place).expanduser() if place else wanted.folder / "tensorboard"
    name = re.sub(r'[<>"|*]', "_", wanted.name)  # a folder on Windows, too
    # What an earlier try has written from this step on is not shown any more.
    tracker = TensorBoardTracker(name, folder, purge_step=wanted.step + 1)
    tracker.start()
    return _TensorBoard(tracker, name, str(folder / name), f"tensorboard --logdir {shlex.quote(str(folder))}")


def _trackio(wanted: Wanted) -> Opened:
    folder = os.environ.setdefault("TRACKIO_DIR", str(wanted.folder / "trackio"))
    from accelerate.tracking import TrackioTracker

    project = wanted.project or PROJECT
    resume = "never" if wanted.id is None else "allow"
    tracker = TrackioTracker(project, name=wanted.id or wanted.name, resume=resume, embed=False)
    tracker.start()
    server = os.environ.get("TRACKIO_SPACE_ID") or os.environ.get("TRACKIO_SERVER_URL", "").partition("?")[0]
    show = f"TRACKIO_DIR={shlex.quote(folder)} trackio show --project {shlex.quote(project)}"
    return Opened(tracker, tracker.tracker.name, server or folder, show)


def _wandb(wanted: Wanted) -> Opened:
    import wandb
    from accelerate.tracking import WandBTracker

    given: dict[str, Any] = {} if "WANDB_CONSOLE" in os.environ else {"console": "off"}
    given |= {} if "WANDB_INIT_TIMEOUT" in os.environ else {"init_timeout": REACH_S}
    given |= {"mode": "offline"} if wanted.local else {}
    folder = os.environ.get("WANDB_DIR") or str(wanted.folder)
    Path(folder).mkdir(parents=True, exist_ok=True)
    tracker = WandBTracker(
        wanted.project or os.environ.get("WANDB_PROJECT") or PROJECT,
        name=wanted.name,
        id=wanted.id or os.environ.get("WANDB_RUN_ID") or wanted.new_id,
        resume="allow",
        dir=folder,
        settings=wandb.Settings(silent=True, x_stats_pid=wanted.process, **given),
    )
    tracker.start()
    run = tracker.tracker
    place = str(Path(run.dir).parent)
    sync = f"wandb sync {shlex.quote(place)}"
    look = sync if run.url is None else "its page"
    return _Wandb(tracker, run.id, run.url or place, look, f"`{sync}` sends the rest.")


def _mlflow(wanted: Wanted) -> Opened:
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(REACH_S // 2))
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    own = (wanted.folder / "mlflow").absolute().as_uri()
    uri = own if wanted.local else os.environ.get("MLFLOW_TRACKING_URI") or own
    if uri == own:  # mlflow asks for a database, which needs far more packages than one run's store is worth
        os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    import mlflow
    from accelerate.tracking import MLflowTracker

    mlflow.set_tracking_uri(uri)
    if wanted.local:
        os.environ.pop("MLFLOW_RUN_ID", None)  # of a run on the server
        with suppress(Exception):  # the one on the server, which is not reachable
            mlflow.end_run()
    tracker = MLflowTracker(wanted.project or PROJECT, run_id=wanted.id, run_name=wanted.name)
    if wanted.project is not None:
        tracker.experiment_name = wanted.project  # the recipe says more about this run than the environment does
    tracker.start()
    allowed = "MLFLOW_ALLOW_FILE_STORE=true " if uri == own else ""
    shown = re.sub(r"//[^/@]*@", "//", uri)  # without a password
    look = f"{allowed}mlflow ui --backend-store-uri {shlex.quote(shown)}"
    sent = is_remote("mlflow") and not wanted.local
    return _Mlflow(tracker, tracker.tracker.info.run_id, shown, "its page" if sent else look)


OPEN: dict[str, Callable[[Wanted], Opened]] = {
    "tensorboard": _tensorboard,
    "trackio": _trackio,
    "wandb": _wandb,
    "mlflow": _mlflow,
}
