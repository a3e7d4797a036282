"""`python -m pmemcache`: the command line."""

import sys

from pmemcache.cli import main

if __name__ == "__main__":
    sys.exit(main())
