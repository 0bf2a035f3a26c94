#!/usr/bin/env bash
# openvino 2026.4.1: `import openvino`, and nothing else, sends an event to an analytics service.
# The package depends on openvino-telemetry 2025.2.0. No question is asked and nothing is said: a lasting random number
# of this user is written to ~/intel/openvino_ga_cid, and an event `import` with it, the version and the operating system
# is posted to www.google-analytics.com. Programs that use OpenVINO as an optional engine report their users with it.
# Without the second package (uninstalled, or kept from being imported) OpenVINO has a stand-in that sends nothing.
# Here the request is caught before it is sent. `openvino_telemetry` is silent where it takes the machine for a CI
# machine, hence the empty environment.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "openvino==2026.4.1" "openvino-telemetry==2025.2.0"
cat > "$folder/look.py" <<'PY'
import json
import time
import urllib.request


def caught(request, *args, **kwargs):
    event = json.loads(request.data)["events"][0]
    print("posted to", request.host, "event", event["name"], event["params"]["app_name"], flush=True)


urllib.request.urlopen = caught
import openvino

time.sleep(2)  # it is posted by another thread
PY
mkdir "$folder/home"
env -i HOME="$folder/home" PATH="$PATH" "$folder/venv/bin/python" "$folder/look.py" | tee "$folder/seen"
(cd "$folder/home" && find . -type f | sort) | tee "$folder/files"
# Seen: posted to www.google-analytics.com event import OpenVINO; ./intel/openvino_ga_cid and ./intel/stats
grep -q "^posted to www.google-analytics.com event import OpenVINO$" "$folder/seen"
grep -q "^./intel/openvino_ga_cid$" "$folder/files"
"$folder/venv/bin/pip" uninstall --quiet --yes openvino-telemetry
mkdir "$folder/second"
env -i HOME="$folder/second" PATH="$PATH" "$folder/venv/bin/python" "$folder/look.py" | tee "$folder/after"
echo "without openvino-telemetry: $(grep -c posted "$folder/after" || true) posts"
[ ! -s "$folder/after" ]
