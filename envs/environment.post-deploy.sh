#!/usr/bin/env bash
# Snakemake runs this in the working directory after it has made the conda environment.
set -euo pipefail
python -m pip install --no-deps --no-build-isolation --editable .
