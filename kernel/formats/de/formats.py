"""German pages write figures as the machines, the scripts, SVG attributes and the API do: 21.5, not 21,5."""

DECIMAL_SEPARATOR = "."
THOUSAND_SEPARATOR = ""
NUMBER_GROUPING = 0
