"""Simulate continuous recordings: python -m preprocessing.simulate_continuous --help"""

import sys

from preprocessing.simulate.continuous import main

if __name__ == "__main__":
    sys.exit(main())
