"""`python -m hf_finetune`: what `accelerate launch -m hf_finetune` starts."""

import sys

from hf_finetune.cli import main

if __name__ == "__main__":
    sys.exit(main())
