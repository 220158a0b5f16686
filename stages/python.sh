#!/bin/sh
# Python of the project's own environment, whether or not it is activated and whatever else is called `python`.
# `dvc exp run --temp` and `--queue` run in a copy of the project below its .dvc/tmp: there it is the project's too.
for project in . "${PWD%%/.dvc/tmp/exps/*}"; do
    if [ -x "$project/.venv/bin/python" ]; then exec "$project/.venv/bin/python" "$@"; fi
done
exec python "$@"
