"""`python -m paco` is the command `paco`."""

import sys

from paco._cli import main

if __name__ == "__main__":
    sys.exit(main())
