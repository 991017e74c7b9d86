"""`python -m efficientnet_east COMMAND ...`."""

import sys

from efficientnet_east.system import installed


def main() -> int:
    """Run the command line; `doctor` also where libraries are missing or broken that all others need.

    Returns:
      The exit code.
    """
    installed.leave_working_folder()
    if sys.argv[1:2] == ["doctor"]:
        from efficientnet_east.cli import doctor

        return doctor.main(sys.argv[2:])
    try:
        from efficientnet_east.cli import main as cli
    except ImportError as error:
        first = str(error).partition("\n")[0]
        print(f"error: {first}; `python -m efficientnet_east doctor` tells what to install", file=sys.stderr)
        return 2
    return cli.main()


if __name__ == "__main__":
    raise SystemExit(main())
