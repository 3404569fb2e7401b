"""Following an archive to which data are added, and telling an operator of events."""
