"""`python train.py ...` is `python -m efficientnet_east train ...`."""

import sys

from efficientnet_east.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main(["train", *sys.argv[1:]]))
