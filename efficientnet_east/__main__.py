# PYTHON_ARGCOMPLETE_OK
"""`python -m efficientnet_east COMMAND ...`."""

import contextlib
import sys

from efficientnet_east.system import installed

with contextlib.suppress(ImportError):  # what is missing is for `doctor` to say
    import efficientnet_east.data  # noqa: F401  (a worker process loads this module before Grain)


def main() -> int:
    """Run the command line. `doctor` works even if libraries are missing or broken that all others need.

    Returns:
      The exit code.
    """
    installed.ignore_working_folder()
    if sys.argv[1:2] == ["doctor"]:
        from efficientnet_east.cli import doctor

        return doctor.main(sys.argv[2:])
    try:
        from efficientnet_east.cli import main as cli
    except ImportError as error:
        first = str(error).partition("\n")[0]
        hint = "run `efficientnet-east doctor` to see what to install"
        print(f"error: {first}; {hint}", file=sys.stderr)
        return 2
    cli.complete()
    return cli.main()


if __name__ == "__main__":
    raise SystemExit(main())
