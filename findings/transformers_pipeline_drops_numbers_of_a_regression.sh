#!/usr/bin/env bash
# transformers 5.24.0: an image classifier with problem_type "regression" and eight outputs says eight numbers, and
# pipeline("image-classification") five of them, the largest, in falling order: top_k is 5 whatever the problem is. No
# word of it, and which numbers are missing differs from image to image. With top_k=8 all are there. (The bare numbers
# are right: for this problem no sigmoid or softmax is applied.)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "transformers==5.24.0" "torch==2.15.0" "pillow"
cat > "$folder/look.py" <<'PY'
import torch
from PIL import Image
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil, pipeline

names = ["width", "height", "depth", "weight", "age", "price", "rooms", "floor"]
config = ViTConfig(image_size=32, patch_size=16, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                   intermediate_size=16, id2label=dict(enumerate(names)), problem_type="regression")
torch.manual_seed(0)
model = ViTForImageClassification(config).eval()
with torch.no_grad():
    model.classifier.bias.copy_(torch.tensor([3.0, -2.0, 1.0, -5.0, 4.0, 9.0, 2.0, -1.0]))
processor = ViTImageProcessorPil(size={"height": 32, "width": 32})
picture = Image.new("RGB", (32, 32), "grey")
with torch.no_grad():
    said = model(**processor(picture, return_tensors="pt")).logits[0]
ask = pipeline("image-classification", model=model, image_processor=processor)
five, every = ask(picture), ask(picture, top_k=8)
bare = all(abs(each["score"] - said[names.index(each["label"])].item()) < 1e-5 for each in every)
print("model", len(said), "numbers; pipeline", len(five), [each["label"] for each in five])
print("with top_k=8", len(every), "bare numbers", bare)
PY
"$folder/venv/bin/python" -W ignore "$folder/look.py" 2> "$folder/log" | tee "$folder/seen" || { tail -5 "$folder/log"; exit 1; }
# Seen:
# model 8 numbers; pipeline 5 ['price', 'age', 'width', 'rooms', 'depth']
# with top_k=8 8 bare numbers True
grep -q "^model 8 numbers; pipeline 5 \['price', 'age', 'width', 'rooms', 'depth'\]$" "$folder/seen"
grep -q "^with top_k=8 8 bare numbers True$" "$folder/seen"
