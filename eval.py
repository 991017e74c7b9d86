"""`python eval.py ...` is `python -m efficientnet_east eval ...`."""

import sys

from efficientnet_east.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main(["eval", *sys.argv[1:]]))
