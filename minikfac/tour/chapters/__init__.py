"""The chapters of the tour."""
