"""`python -m analysis`: the command line, also where the command `palimpsest` is not installed."""

from analysis.cli import main

main()
