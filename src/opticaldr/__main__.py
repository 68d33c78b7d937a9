"""`python -m opticaldr`."""

from opticaldr.cli import main

main()
