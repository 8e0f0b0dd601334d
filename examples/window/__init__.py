"""A window that stays responsive while it fetches and computes. ``make gui`` runs it."""
