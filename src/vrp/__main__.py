"""`python -m vrp` is `vrp`."""

from vrp.cli import main

main()
