"""Programs that show what whorl is for.

``make run`` runs :mod:`examples.demo`, ``make database`` :mod:`examples.database_demo`.
"""
