"""Simulate continuous recordings: python -m preprocessing.simulate_continuous --help"""

from preprocessing.simulate.continuous import main

if __name__ == "__main__":
    main()
