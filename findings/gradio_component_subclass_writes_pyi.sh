#!/usr/bin/env bash
# gradio 6.31.0: to define a class that inherits from a component writes a file beside the module that defines it.
# ComponentMeta calls create_or_modify_pyi, whose result is <module>.pyi: the whole text of the module with one import
# more, and for a class with events of its own their signatures. So importing somebody's installed package writes into
# site-packages, type checkers then read the copy and not the module, and it is not brought up to date when the module
# changes. There is no switch. A module that is not a file's, or whose source is not at hand, is left out or fails.
# A component of one's own can be had without it by setting a method on the object, or by `preprocess=False`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "gradio==6.31.0"
mkdir "$folder/package"
cat > "$folder/package/picture.py" <<'PY'
import gradio as gr

SIDE = 1


class Picture(gr.Image):
    def preprocess(self, payload):
        return payload
PY
cd "$folder"
export PYTHONPATH="$folder/package" GRADIO_ANALYTICS_ENABLED=False
venv/bin/python -c "import picture"
ls package | tee seen
# Seen: __pycache__, picture.py and picture.pyi
grep -q "^picture.pyi$" seen
sed -i "s/SIDE = 1/SIDE = 'a text by now'/" package/picture.py
venv/bin/python -c "import picture; print('module:', picture.SIDE)"
grep "^SIDE" package/picture.pyi | tee stale
# Seen: module: a text by now; SIDE = 1
grep -q "^SIDE = 1$" stale
