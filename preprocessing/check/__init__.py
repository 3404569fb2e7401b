"""Check recordings before training: what is in them, what packing would do, what to set."""
