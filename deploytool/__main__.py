"""``python -m deploytool``: the same as the console script."""

from deploytool.cli.entry import main

main()
