"""`python -m blocklang`: the command line, `blc`."""

import sys

from blocklang.cli import main

if __name__ == "__main__":
    sys.exit(main())
