#!/usr/bin/env bash
# Snakemake runs this in the working directory after it has made the conda environment: a checkout,
# whose code it installs, or the folder of a study that `vrp init` made.
set -euo pipefail
if [ -d src/vrp ]; then
    python -m pip install --no-deps --no-build-isolation --editable .
else
    python -m pip install --no-deps vlm-reliability
fi
