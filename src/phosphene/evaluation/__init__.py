"""From scores to results with their protocol; no model's inside is seen here."""
