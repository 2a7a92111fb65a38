"""The op library: every op is one of the four kinds in kinds.py."""
