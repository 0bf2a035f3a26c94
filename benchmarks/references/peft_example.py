"""What PEFT's image-classification example does (examples/image_classification/image_classification_peft_lora.ipynb).

    python benchmarks/references/peft_example.py --model FOLDER --data FOLDER --out FOLDER [--seed 0]

LoRA on the attention's query and value (the fused `qkv` of timm's ViTs): rank 16, alpha 16, dropout 0.1, no biases, the
classifier trained whole; the Trainer with learning rate 5e-3, 5 epochs, batch 128 in four accumulation steps (512 an
update), validation and a checkpoint each epoch, the best by validation accuracy saved. The example trains in fp16 on a
GPU, and so does this; fp16 has no place on a CPU, where it is bf16 autocast. Data and transforms are those of the
transformers example, on which PEFT's is built. The learning rate falls to zero by itself (the Trainer's default).

Where the example stays silent: the names of the modules are the checkpoint's (`q_proj` and `v_proj`, as transformers
since version 5 calls `query` and `value`; `qkv` in timm), and OUT/model also gets the labels (config.json) and, outside
timm, the processor, so that stock_accuracy.py can load it.
"""

from __future__ import annotations

from typing import Any

from record import Record, arguments
from transformers_example import pretrained, train

# First match wins; each pair is (names of query and value, or the fused layer).
QUERY_AND_VALUE = (("query", "value"), ("q_proj", "v_proj"), ("qkv",))
HEADS = ("classifier", "head", "fc")


def targets_of(model: Any) -> list[str]:
    leaves = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    for names in QUERY_AND_VALUE:
        if leaves.issuperset(names):
            return list(names)
    raise SystemExit("expected a backbone with attention (query and value, q_proj and v_proj, or qkv); found none")


def head_of(model: Any) -> str:
    """The classifier's own name; timm's is below the wrapper."""
    children = dict(model.named_children())
    inner = dict(children["timm_model"].named_children()) if "timm_model" in children else children
    for name in HEADS:
        if name in inner:
            return f"timm_model.{name}" if "timm_model" in children else name
    raise SystemExit(f"expected a head named one of {', '.join(HEADS)}; found {', '.join(inner)}")


def training_arguments(options: Any) -> Any:
    import torch
    from transformers import TrainingArguments

    on_gpu = torch.cuda.is_available()
    return TrainingArguments(
        f"{options.out}/checkpoints",
        remove_unused_columns=False,
        eval_strategy="epoch",
        save_strategy="epoch",
        learning_rate=options.learning_rate,
        per_device_train_batch_size=128,
        gradient_accumulation_steps=4,
        per_device_eval_batch_size=128,
        fp16=on_gpu,
        bf16=not on_gpu,
        use_cpu=not on_gpu,  # without it the Trainer refuses bf16 on a CPU
        num_train_epochs=options.epochs,
        logging_steps=10,
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
        label_names=["labels"],
        report_to="none",
        seed=options.seed,
    )


def main() -> None:
    options = arguments(__doc__, learning_rate=5e-3, epochs=5)
    from peft import LoraConfig, get_peft_model
    from transformers import Trainer  # noqa: F401  (counted as an import)

    record = Record(options.out)
    record.imported()
    processor, data, model = pretrained(options)
    lora = LoraConfig(
        r=16,
        lora_alpha=16,
        target_modules=targets_of(model),
        lora_dropout=0.1,
        bias="none",
        modules_to_save=[head_of(model)],
    )
    config = model.config
    adapted = get_peft_model(model, lora)
    train(adapted, training_arguments(options), data, processor, record, options.out)
    config.save_pretrained(f"{options.out}/model")
    record.saved()


if __name__ == "__main__":
    main()
