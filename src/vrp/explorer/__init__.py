"""The explorer: a page of every answer, and the files that it loads from the disk beside it."""
