"""What a person may have meant by a key that a recipe does not know: a close one, or the name it has elsewhere. Light.

Names are those of other tools (transformers' TrainingArguments, PEFT, timm's script, fastai, Keras) and everyday words.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import get_args

from pydantic import BaseModel

from hf_finetune.recipe.overrides import keys_of, kinds_of

_ELSEWHERE = {
    "train.learning_rate": "lr base_lr learningrate step_size",
    "train.effective_batch_size": "batch_size bs batch batchsize train_batch_size per_device_train_batch_size",
    "train.eval_batch": "eval_batch_size per_device_eval_batch_size val_batch_size",
    "train.epochs": "epoch num_epochs n_epochs max_epochs num_train_epochs passes",
    "train.weight_decay": "wd decay l2",
    "train.optimizer": "optim opt optimiser",
    "train.schedule": "scheduler lr_scheduler lr_scheduler_type sched",
    "train.warmup_share": "warmup warmup_ratio warmup_steps warmup_epochs",
    "train.max_grad_norm": "grad_clip clip_grad gradient_clipping max_norm clip",
    "train.early_stopping": "patience early_stopping_patience",
    "train.best_by": "metric monitor metric_for_best_model",
    "train.precision": "dtype amp fp16 bf16 mixed_precision torch_dtype",
    "train.checkpointing": "gradient_checkpointing grad_checkpointing",
    "train.decode_workers": "workers num_workers dataloader_num_workers jobs",
    "train.seed": "random_seed random_state",
    "adapter.rank": "r lora_r lora_rank",
    "adapter.alpha": "lora_alpha",
    "adapter.dropout": "lora_dropout",
    "adapter.targets": "target_modules modules layers",
    "adapter.dora": "use_dora",
    "adapter.rslora": "use_rslora",
    "adapter.from": "resume init adapter_name start_from",
    "adapter.kind": "method peft_type freeze lora full head_only",
    "quantization.kind": "bits load_in_4bit load_in_8bit int8 nf4 quantize",
    "model.name": "backbone model_name model_name_or_path model_id checkpoint pretrained arch architecture",
    "data.name": "dataset dataset_name data_dir train_dir root folder images image_dir",
    "data.validation_share": "val_size valid_pct val_share validation_size val_ratio",
    "data.test_share": "test_size test_ratio",
    "data.validation_split": "val_split val valid validation",
    "data.label_column": "label target target_column label_col labels",
    "data.group_column": "group groups patient subject patient_id subject_id group_by",
    "data.split_seed": "cut_seed",
    "data.image_column": "image image_col path_column",
    "output.dir": "output_dir out save_dir outdir run_dir logging_dir",
    "tracking.to": "report_to log_with logger loggers wandb tensorboard mlflow trackio tracker trackers",
    "tracking.project": "wandb_project experiment experiment_name",
    "tracking.name": "run_name",
    "budget.time": "timeout max_time time_limit minutes seconds limit duration",
    "budget.memory": "ram vram gpu_memory max_memory",
    "hub.repo": "hub_model_id push_to_hub repo_id",
    "augment.flip": "hflip horizontal_flip random_flip",
    "augment.rotate_degrees": "rotation rotate degrees",
    "augment.color": "color_jitter jitter colour",
    "augment.erasing": "reprob random_erasing random_erase",
    "augment.randaugment": "aa auto_augment rand_augment trivial_augment",
    "task.label_smoothing": "smoothing label_smoothing_factor",
    "task.class_weights": "weights class_weight",
}
# The same everyday word means another key in each section.
_HERE = {
    "name": "path folder dir id file source repo",
    "dir": "path folder name",
    "repo": "name id",
    "kind": "name type",
}
_SECTIONS = {
    "adapter": "lora peft adapters",
    "train": "training trainer optimizer optim fit hyperparameters",
    "data": "dataset datasets images",
    "model": "backbone network",
    "quantization": "quant quantizer quantize bnb",
    "augment": "augmentation augmentations transforms aug",
    "budget": "limits limit resources",
    "output": "out outputs run",
}
# The one key that a section given as a bare value must have meant.
_MAIN = {"model": "name", "data": "name", "output": "dir", "hub": "repo", "adapter": "kind", "quantization": "kind"}


def suggest(written: str, names: Iterable[str]) -> str:
    """`; did you mean NAME?` where one of `names` is close, else nothing."""
    match = difflib.get_close_matches(written, list(names), n=1, cutoff=0.6)
    return f"; did you mean {match[0]}?" if match else ""


def unknown_key(path: Sequence[str], section: type[BaseModel], root: type[BaseModel]) -> str:
    """`unknown key; …`: the key that was meant at `path`, or those that `section` knows."""
    written, known = path[-1].lower().replace("-", "_"), keys_of(section)
    places = [f"{name}.{written}" for name in root.model_fields if name != path[0] and written in _all_keys(root, name)]
    if meant := _same_section(written, path[0], known) if len(path) > 1 else _section(written):
        return f"unknown key; did you mean {meant}?"
    if len(path) > 1 and (kinds := _kinds_with(written, path[0], root)):
        return f"unknown key; it knows {', '.join(known)}; {written} is of {path[0]}.kind {' and '.join(kinds)}"
    if places:
        return f"unknown key; did you mean {' or '.join(places)}?"
    if meant := _elsewhere(written):
        return f"unknown key; did you mean {meant.removeprefix(f'{path[0]}.')}?"
    return "unknown key" + (
        suggest(written, known) or _anywhere(written, path[0], root) or f"; it knows {', '.join(known)}"
    )


def main_key(path: Sequence[str]) -> str:
    """`; did you mean model.name?` for a section that was given as a bare value."""
    key = _MAIN.get(path[0]) if len(path) == 1 else None
    return f"; did you mean {path[0]}.{key}?" if key else ""


def option_as_key(option: str, root: type[BaseModel]) -> str | None:
    """The recipe's key that `--lr` or `--train.epochs` of another tool's command line means; None: none is known."""
    name = option.lstrip("-").partition("=")[0].replace("-", "_").lower()
    places = [f"{section}.{name}" for section in root.model_fields if name in _all_keys(root, section)]
    section, _, key = name.partition(".")
    if key and section in root.model_fields and key in _all_keys(root, section):
        return name
    return places[0] if len(places) == 1 else _elsewhere(name)


def _same_section(written: str, section: str, known: Sequence[str]) -> str | None:
    """A key of this section under its everyday name or that of another tool."""
    for key in known:
        if written in _ELSEWHERE.get(f"{section}.{key}", "").split() or written in _HERE.get(key, "").split():
            return key
    return None


def _section(written: str) -> str | None:
    return next((section for section, others in _SECTIONS.items() if written in others.split()), None)


def _elsewhere(written: str) -> str | None:
    return next((key for key, others in _ELSEWHERE.items() if written in others.split()), None)


def _anywhere(written: str, section: str, root: type[BaseModel]) -> str:
    """A close key of another section."""
    others = [name for name in root.model_fields if name != section]
    places = {key: f"{name}.{key}" for name in others for key in sorted(_all_keys(root, name))}
    match = difflib.get_close_matches(written, places, n=1, cutoff=0.75)
    return f"; did you mean {places[match[0]]}?" if match else ""


def _all_keys(root: type[BaseModel], section: str) -> set[str]:
    """The keys of a section, of all of its kinds but for `kind`, which many have."""
    kinds = kinds_of(root, section).values()
    annotation = root.model_fields[section].annotation
    members = [*kinds] or [each for each in (annotation, *get_args(annotation)) if isinstance(each, type)]
    return {key for each in members if issubclass(each, BaseModel) for key in keys_of(each)} - {"kind"}


def _kinds_with(written: str, section: str, root: type[BaseModel]) -> list[str]:
    return [name for name, kind in kinds_of(root, section).items() if written in keys_of(kind)]
