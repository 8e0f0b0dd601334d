"""Long runs that look for growth."""
