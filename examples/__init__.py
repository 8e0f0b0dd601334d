"""Programs that show what whorl is for. ``make run`` runs :mod:`examples.demo`."""
