"""`python -m opticaldr.cli`, which launchers of several processes need."""

from opticaldr.cli import main

main()
