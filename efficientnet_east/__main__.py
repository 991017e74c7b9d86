"""`python -m efficientnet_east COMMAND ...`."""

from efficientnet_east.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
