"""The HF Trainer whose training step is one whole update, and whose evaluation survives a lack of memory.

The Trainer's own accumulation hands over one micro-batch at a time and cannot go back, so that an update which runs out
of memory in its middle is lost or, worse, counted in part. Here the Trainer sees the process's whole share of an update
(uint8 rows, small) and this class cuts it into micro-batches; on out of memory the gradients are dropped and the same
rows are replayed in smaller pieces, on every process alike (docs/DECISIONS.md).

A model with adapters has some 800 modules, and every walk through them takes a millisecond or two of the host, of which
a small model's update on a GPU has few (docs/experiments.md, "Where the host's time of an update goes"): what an
update needs of them is looked up once.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, Trainer

from hf_finetune.errors import MachineError, TrainingError
from hf_finetune.machine import interruption
from hf_finetune.machine.ranks import any_rank, is_distributed, sum_over_ranks, sum_tensors_over_ranks
from hf_finetune.training.averaging import AveragedWeights
from hf_finetune.training.best_checkpoint import BestCheckpoint
from hf_finetune.training.cuda_graph.captured import CapturedPieces
from hf_finetune.training.cuda_graph.module_walks import keeps_statistics
from hf_finetune.training.non_finite import not_finite, rows_with_non_finite_loss
from hf_finetune.training.objective import Batch, ModelBatch, Objective
from hf_finetune.training.pieces import cut, forward_in_pieces, free_cached_memory, is_out_of_memory
from hf_finetune.training.whole_weights import check_read, save_whole

logger = logging.getLogger(__name__)


class UpdateTrainer(Trainer):
    """Trains on whole updates; see the module.

    `micro_batch` and `eval_batch` are the sizes to start with; both only shrink. `frozen_norms` stay in eval mode,
    since their running statistics belong to the frozen backbone and are not saved with an adapter. `name_rows` gives
    the names of training rows by number, for messages. Without `stop_on_non_finite` a diverging run goes on (the
    learning-rate range test wants to see it). With `cuda_graphs` pieces are captured where that is possible
    (captured.py). `averaged` and `best_checkpoint` are also among the callbacks: what is evaluated instead of the
    weights as they are, and what says whether the best ones can be loaded.
    """

    def __init__(
        self,
        *,
        objective: Objective,
        micro_batch: int,
        eval_batch: int,
        frozen_norms: Sequence[nn.Module],
        name_rows: Callable[[Sequence[int]], list[str]],
        stop_on_non_finite: bool = True,
        cuda_graphs: bool = False,
        averaged: AveragedWeights | None = None,
        best_checkpoint: BestCheckpoint | None = None,
        **trainer_arguments: Any,
    ) -> None:
        super().__init__(**trainer_arguments)
        self.objective = objective
        self.micro_batch = micro_batch
        self.eval_batch = eval_batch
        self.replays = 0
        self._frozen_norms = list(frozen_norms)
        self._name_rows = name_rows
        self._stop_on_non_finite = stop_on_non_finite
        self._cuda_graphs = cuda_graphs
        self._averaged = averaged
        self._best_checkpoint = best_checkpoint
        self._captured: CapturedPieces | None = None
        self._norm: torch.Tensor | None = None  # of this update's gradients, once it is known
        self._parameters: list[nn.Parameter] = []
        self._batch_norms: list[nn.Module] = []

    def training_step(
        self, model: nn.Module, inputs: Batch, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Gradients of one update from this process's rows; returns the update's mean loss over all processes."""
        del num_items_in_batch  # rows may be weighted, so the objective counts
        self._enter_train_mode(model)
        inputs = self._prepare_inputs(inputs)
        normaliser = sum_over_ranks(self.objective.row_weights(inputs).sum())
        while True:
            loss = self._attempt(model, inputs, normaliser)
            lacks_memory, ended = any_rank((loss is None, interruption.has_come()), self.args.device)
            if ended and is_distributed():
                interruption.end_together()
            if not lacks_memory:
                break
            model.zero_grad()
            self._shrink()
        if loss is None:
            raise TrainingError("A process ran out of memory without the others knowing.")
        loss = sum_over_ranks(loss)
        sum_tensors_over_ranks(self._gradients())
        if self._stop_on_non_finite:
            self._check_finite(model, inputs, loss, normaliser)
        return loss

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The Trainer's, callbacks and all, of the weights' average where one is kept."""
        with contextlib.nullcontext() if self._averaged is None else self._averaged.in_place():
            return super().evaluate(*args, **kwargs)

    def prediction_step(
        self, model: nn.Module, inputs: Batch, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[None, torch.Tensor, torch.Tensor]:
        """Logits [B, C] float32 and labels [B]; without the graph, and then in smaller pieces, where memory lacks."""
        del prediction_loss_only, ignore_keys
        inputs, normalise = self._prepare_inputs(inputs), self.objective.normalise
        logits, self.eval_batch = forward_in_pieces(model, normalise, inputs, self.eval_batch, self.drop_graph)
        return None, logits, inputs["labels"]

    def floating_point_ops(self, inputs: Batch) -> int:
        """Not counted: the Trainer's estimate walks the model in every update, and nobody reads it here."""
        del inputs
        return 0

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        """The Trainer's, by the norm that is known already."""
        if self._norm is None:
            return super()._clip_grad_norm(model)
        trained = [weight for weight in self._parameters if weight.grad is not None]
        torch.nn.utils.clip_grads_with_norm_(trained, self.args.max_grad_norm, self._norm)
        return self._norm

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """The Trainer's; where nothing was clipped, the norm that is known already."""
        known = grad_norm if grad_norm is not None else self._norm
        return super()._get_grad_norm(model, grad_norm=known)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        """The Trainer's for adapters; a whole model so that `_load_best_model` and a resumed run find all of it."""
        if not isinstance(self.model, PreTrainedModel):
            super()._save(output_dir, state_dict)
        elif self.args.should_save:
            save_whole(self.model, Path(output_dir or str(self.args.output_dir)), state_dict)

    def _load_best_model(self) -> None:
        """The Trainer's, of a checkpoint that is as it was written."""
        if self._best_checkpoint is None or self._best_checkpoint.can_be_loaded(self.state):
            super()._load_best_model()

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Weights that a checkpoint did not hold are an error, and not a line in the log."""
        if isinstance(self.model, PreTrainedModel):
            check_read(self.model, load_result.missing_keys)

    def drop_graph(self) -> bool:
        """Give back the memory of what was captured, if anything was; whether so."""
        return self._captured is not None and self._captured.drop()

    def _enter_train_mode(self, model: nn.Module) -> None:
        """Before the first update and after every evaluation, which leaves the model in its own mode."""
        bare: Any = self.model  # evaluation's own: a wrapper of several processes stays in train mode
        if self._parameters and bare.training:
            return
        model.train()
        for norm in self._frozen_norms:
            norm.eval()
        self._parameters = list(model.parameters())
        self._batch_norms = [module for module in model.modules() if keeps_statistics(module)]
        if self._cuda_graphs and self._captured is None:
            self._captured = CapturedPieces(functools.partial(self._loss, model), model)

    @property
    def _least_piece(self) -> int:
        """Images in a piece: the statistics of a single one say nothing to a batch norm that trains."""
        return 2 if self._batch_norms else 1

    def _gradients(self) -> list[torch.Tensor]:
        return [weight.grad for weight in self._parameters if weight.grad is not None]

    def _attempt(self, model: nn.Module, inputs: Batch, normaliser: torch.Tensor) -> torch.Tensor | None:
        """This process's part of the mean loss, with its gradients left on the parameters; None: out of memory."""
        total = torch.zeros((), device=self.args.device)
        self._norm = None
        if self._captured is not None:
            self._captured.begin_update()
        statistics = self._running_statistics()
        try:
            for piece in cut(inputs, self.micro_batch, self._least_piece):
                total += self._take(model, piece, normaliser)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            for buffer, before in statistics:
                buffer.copy_(before)
            return None
        return total

    def _take(self, model: nn.Module, piece: Batch, normaliser: torch.Tensor) -> torch.Tensor:
        """The loss of a piece, its gradients added to the weights'. Nothing of its autograd graph outlives the call: a
        capture of the next piece would fail on it."""
        prepared = self.objective.prepare(piece)
        if self._captured is not None and (loss := self._captured.take(prepared, normaliser)) is not None:
            return loss
        with self.accelerator.no_sync(model):  # the gradients are summed over the processes after the last piece
            loss = self._loss(model, prepared, normaliser)
            self.accelerator.backward(loss)
        return loss.detach()

    def _loss(self, model: nn.Module, prepared: ModelBatch, normaliser: torch.Tensor) -> torch.Tensor:
        return self.objective.loss(model(pixel_values=prepared.pixel_values).logits, prepared, normaliser)

    def _running_statistics(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Copies of the trained BatchNorm layers' statistics, so that a replayed update counts once."""
        return [(buffer, buffer.clone()) for norm in self._batch_norms for buffer in norm.buffers(recurse=False)]

    def _shrink(self) -> None:
        least = self._least_piece
        if self.micro_batch <= least:
            images = "one image" if least == 1 else "two images"
            raise MachineError(
                f"Out of memory with {images} at a time{', and batch norms need two' * (least > 1)}.",
                "Take a smaller backbone, adapter.kind head_only, train.checkpointing true, or close other programs.",
            )
        self.drop_graph()
        self.micro_batch = max(least, self.micro_batch // 2)
        self.replays += 1
        logger.warning(
            "Out of memory: the update is replayed from its rows with micro-batch %d (effective batch unchanged).",
            self.micro_batch,
        )
        free_cached_memory()

    def _check_finite(self, model: nn.Module, inputs: Batch, loss: torch.Tensor, normaliser: torch.Tensor) -> None:
        """Stop before a non-finite number reaches the weights. One device sync an update."""
        finite = torch.isfinite(loss)
        if not self.args.fp16:  # with loss scaling an infinite gradient is ordinary: the scaler skips that update
            self._norm = torch.nn.utils.get_total_norm(self._gradients())
            finite = finite & torch.isfinite(self._norm)
        if not bool(finite):
            loss_of = functools.partial(self._loss, self.accelerator.unwrap_model(model).eval())
            culprits = rows_with_non_finite_loss(loss_of, self.objective.prepare, inputs, normaliser)
            raise not_finite(self.state.global_step + 1, culprits, inputs["rows"].tolist(), self._name_rows)
