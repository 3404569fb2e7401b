"""Simulate continuous recordings: python -m preprocessing.simulate_continuous --help"""

from preprocessing.simulate.simulated_days import main

if __name__ == "__main__":
    main()
