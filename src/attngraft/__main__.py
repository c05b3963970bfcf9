"""``python -m attngraft``."""

from attngraft.cli import main

main()
