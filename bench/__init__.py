"""Measurements of whorl against its peers: `python -m bench --help`."""
