"""Speed of the repository, compared with the published implementation of the same work."""
