"""`python -m hf_finetune`: what `accelerate launch -m hf_finetune` starts."""

from hf_finetune.cli.process import run

if __name__ == "__main__":
    run()
