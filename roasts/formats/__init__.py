"""Roasts as files: what every format shares, and the formats beside Artisan's log."""
