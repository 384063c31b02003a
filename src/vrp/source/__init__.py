"""The source of the package itself: its definitions, and what depends on what."""
