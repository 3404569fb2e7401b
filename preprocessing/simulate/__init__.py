"""Simulated events and continuous recordings of a network like the one at Åknes."""
