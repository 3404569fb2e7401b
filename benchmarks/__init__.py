"""Speed, measured against the published way of doing the same work."""
