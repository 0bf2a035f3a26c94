#!/usr/bin/env bash
# huggingface_hub 2.4.0: a download with `local_dir` that is killed leaves its half under a name with a random part. The
# next try of the same file begins at its first byte, under another name, and the half stays beside the whole file for
# ever: below local_dir/.cache/huggingface/download, which lists of the folder's files do not show. Whoever fetches large
# files again after kills fills the disk by that, and pays for each byte again.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill "$(cat "$folder/pid" 2> /dev/null)" 2> /dev/null || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "huggingface_hub==2.4.0"
cd "$folder"
cat > server.py <<'PY'
"""A repo of one file of 30 MB on loopback, given slowly while the file `slow` is there; writes down what is asked."""
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SIZE, PIECE = 30_000_000, 1_000_000


class Repo(BaseHTTPRequestHandler):
    def answer(self, body):
        asked = self.headers.get("Range")
        first = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        if body:
            with open("asked", "a") as file:
                file.write(f"from byte {first}\n")
        self.send_response(206 if asked else 200)
        self.send_header("ETag", '"0123456789abcdef0123456789abcdef01234567"')
        self.send_header("X-Repo-Commit", "0123456789abcdef0123456789abcdef01234567")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(SIZE - first))
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{SIZE - 1}/{SIZE}")
        self.end_headers()
        for start in range(first, SIZE if body else first, PIECE):
            self.wfile.write(bytes(min(PIECE, SIZE - start)))
            self.wfile.flush()
            if Path("slow").exists():
                time.sleep(0.1)

    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        self.answer(True)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Repo)
Path("pid").write_text(str(os.getpid()))
Path("port").write_text(str(server.server_port))
server.serve_forever()
PY
cat > fetch.py <<'PY'
from huggingface_hub import hf_hub_download

hf_hub_download("user/data", "large.bin", repo_type="dataset", local_dir="here")
PY
touch slow
"$folder/venv/bin/python" server.py 2> /dev/null &
while [ ! -s port ]; do sleep 0.1; done
export HF_ENDPOINT="http://127.0.0.1:$(cat port)" HF_HOME="$folder/home" HF_HUB_DISABLE_XET=1 HF_HUB_DISABLE_TELEMETRY=1
export HF_HUB_DISABLE_PROGRESS_BARS=1 NO_PROXY=127.0.0.1 no_proxy=127.0.0.1
"$folder/venv/bin/python" fetch.py &
fetching=$!
until [ -s asked ] && [ "$(find here -name '*.incomplete' -size +5000k 2> /dev/null | wc -l)" = 1 ]; do sleep 0.1; done
kill -9 "$fetching"
wait "$fetching" 2> /dev/null || true
rm slow
"$folder/venv/bin/python" fetch.py
cat asked
echo "whole: $(find here -name large.bin -size 30000000c | wc -l), halves left: $(find here -name '*.incomplete' | wc -l)"
# Seen: "from byte 0" twice; "whole: 1, halves left: 1".
[ "$(sort -u asked)" = "from byte 0" ] && [ "$(wc -l < asked)" = 2 ]
[ "$(find here -name large.bin -size 30000000c | wc -l)" = 1 ] && [ "$(find here -name '*.incomplete' | wc -l)" = 1 ]
