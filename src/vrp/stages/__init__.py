"""The stages of a study: each reads tables, writes tables, and can be run by hand."""
