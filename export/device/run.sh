#!/bin/sh
# The camera runner on the bundle beside this file. Arguments are passed on: ./run.sh --source /dev/video0
set -eu
cd "$(dirname "$0")"
python="${PYTHON:-.venv/bin/python}"
exec "$python" -m inference run bundle --source synthetic:// "$@"
