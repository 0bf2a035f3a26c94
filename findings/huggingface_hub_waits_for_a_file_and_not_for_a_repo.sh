#!/usr/bin/env bash
# huggingface_hub 2.4.0 without a network: a file is asked for six times within 23 s, a whole repo once.
# hf_hub_download repeats its HEAD request where the Hub's name cannot be resolved, with waits of 1, 2, 4, 8 and 8 s;
# snapshot_download asks about the repo first, which is not repeated, and fails at once. Both end in the same
# LocalEntryNotFoundError. A program that tries "a download" three times waits over a minute for one and no time for the
# other, so that its own patience has to go by how long the call took and not by the error.
# The Hub is a name below .invalid, which resolves nowhere (RFC 6761).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "huggingface_hub==2.4.0"
cat > "$folder/look.py" <<'PY'
import logging
import time

import huggingface_hub
from huggingface_hub import hf_hub_download, snapshot_download

tried = []


class Count(logging.Handler):
    def emit(self, record):
        tried.append("Retrying in" in record.getMessage())


logger = logging.getLogger("huggingface_hub")
logger.handlers, logger.propagate = [Count()], False
for name, call in (
    ("hf_hub_download", lambda: hf_hub_download("user/repo", "config.json")),
    ("snapshot_download", lambda: snapshot_download("user/repo")),
):
    tried.clear()
    started = time.monotonic()
    try:
        call()
    except huggingface_hub.errors.LocalEntryNotFoundError as error:
        long = "more than 15 s" if time.monotonic() - started > 15 else "less than 15 s"
        print(f"{name}: {type(error).__name__} after {sum(tried)} repetitions in {long}")
PY
HF_ENDPOINT=http://hub.invalid HF_HOME="$folder/home" "$folder/venv/bin/python" "$folder/look.py" | tee "$folder/seen"
# Seen: hf_hub_download: LocalEntryNotFoundError after 5 repetitions in more than 15 s
#       snapshot_download: LocalEntryNotFoundError after 0 repetitions in less than 15 s
grep -qx "hf_hub_download: LocalEntryNotFoundError after 5 repetitions in more than 15 s" "$folder/seen"
grep -qx "snapshot_download: LocalEntryNotFoundError after 0 repetitions in less than 15 s" "$folder/seen"
