"""Measurements of whorl beside its peers: `python -m bench --help`."""
