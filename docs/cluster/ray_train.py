"""One run on the workers of a Ray cluster: this file gives each its rank and the first one's address (Ray Train).

    python docs/cluster/ray_train.py recipe.yaml --workers 4 output.dir=/shared/run
    python docs/cluster/ray_train.py recipe.yaml --workers 2 --cpu output.dir=/shared/run

A worker is a process, with a GPU unless --cpu is given. output.dir lies on storage that all nodes see. Where a worker
or its node dies, Ray starts all of them again, at most --restarts times, and they go on from the last whole checkpoint.
What it was run on: see README.md.
"""

import argparse
import logging
import os
from pathlib import Path

import ray
import ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from hf_finetune.recipe.recipe import load_recipe


def work(config: dict) -> None:
    """In each worker, where Ray has formed the process group and set RANK, WORLD_SIZE and the rest."""
    import hf_finetune
    from hf_finetune.cli.log import configure_logging

    configure_logging(debug=False, quiet=False)
    run = hf_finetune.train(load_recipe(config["recipe"], config["overrides"]))
    if ray.train.get_context().get_world_rank() == 0:
        logging.getLogger("hf_finetune").info("finished: %s", run.folder.path)


def main() -> None:
    parser = argparse.ArgumentParser(description="hf-finetune on Ray Train")
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--restarts", type=int, default=3)
    options = parser.parse_intermixed_args()
    load_recipe(options.recipe, options.overrides)  # a mistake in it would be tried again by all workers
    variables = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    ray.init(runtime_env={"env_vars": variables if options.cpu else {}})
    trainer = TorchTrainer(
        work,
        train_loop_config={"recipe": str(Path(options.recipe).resolve()), "overrides": options.overrides},
        # hf-finetune notices itself when a process is gone (train.peer_timeout); a healthy one may be waited for.
        torch_config=TorchConfig(backend="gloo" if options.cpu else "nccl", timeout_s=30 * 24 * 3600),
        scaling_config=ScalingConfig(num_workers=options.workers, use_gpu=not options.cpu),
        run_config=RunConfig(failure_config=FailureConfig(max_failures=options.restarts)),
    )
    trainer.fit()


if __name__ == "__main__":
    main()
