#!/bin/sh
# On this device: build what can be built, verify, measure every candidate, choose. Then: ./run.sh
set -eu
cd "$(dirname "$0")"
python="${PYTHON:-.venv/bin/python}"
for bundle in runs/*/*/bundle; do
    "$python" -m inference build "$bundle" --backend trt || echo "$bundle: no engine here, the CPU backends remain" >&2
    "$python" -m inference verify "$bundle"
done
for run in runs/*; do
    "$python" -m benchmarks "$run" "$@"
    rm -rf bundle && cp -r "$run/production" bundle
done
