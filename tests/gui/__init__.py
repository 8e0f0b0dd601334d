"""``whorl.gui`` in the main loops of real toolkits."""
